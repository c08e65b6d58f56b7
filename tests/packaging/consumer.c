/* SPDX-License-Identifier: Apache-2.0 */
/* The example in cadft.h's comment, which package.sh cuts out into example.h,
 * with what it leaves to the reader. */
#include <math.h>
#include <stdio.h>

#include <cadft/cadft.h>

int main(void)
{
    enum { rows = 4, vocab = 5, n_samples = 2 };
    float z[rows * vocab] = {0.5f, 1, -2, 0, 3, 0, 0, 0, 0, 0,
                             -1,   2, 2,  1, 0, 4, 0, 1, 0, -3};
    int32_t y[rows] = {0, 3, 1, 1}, s[rows] = {0, 0, 1, 1};
    cadft_error err = {sizeof err, 0, {0}};
#include "example.h"
    for (int r = 0; r < rows; r++) {
        float sum = 0;
        for (int v = 0; v < vocab; v++)
            sum += z[r * vocab + v];
        if (err.code != CADFT_OK || !(fabsf(sum) < 1e-6f)) {
            fprintf(stderr, "row %d: sum %g %s\n", r, (double)sum, err.message);
            return 1;
        }
    }
    cadft_loss_destroy(loss);
    cadft_context_destroy(ctx);
    printf("version %u, loss %.6f\n", (unsigned)cadft_version(), report.loss);
    return report.loss > 0 ? 0 : 1;
}
