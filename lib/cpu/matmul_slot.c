/* SPDX-License-Identifier: Apache-2.0 */
/* The slot of the matrix product: own kernels, or the CBLAS that the device
 * was opened with. */
#include "common/error.h"
#include "cpu/cpu.h"
#include "cpu/matmul.h"

static cadft__matmul_args plain(const cadft_matmul_args *args)
{
    return (cadft__matmul_args){
        .m = args->m,
        .n = args->n,
        .k = args->k,
        .a = (const float *)cadft__cpu_address(&args->a),
        .b = cadft__cpu_address(&args->b),
        .bias = cadft__cpu_address(&args->bias),
        .c = (float *)cadft__cpu_address(&args->c),
        .lda = args->a_stride,
        .ldb = args->b_stride,
        .ldc = args->c_stride,
        .a_transposed = args->a_transposed,
        .b_transposed = args->b_transposed,
        .b_dtype = cadft__cpu_kernel_dtype(args->b_dtype),
        .bias_dtype = cadft__cpu_kernel_dtype(args->bias_dtype),
        .accumulate = args->accumulate,
    };
}

uint64_t cadft__cpu_matmul_work_bytes(cadft_device *device,
                                      const cadft_matmul_args *args)
{
    cadft__matmul_args a = plain(args);
    int32_t workers = device->host->max_workers;
    return device->sgemm ? cadft__matmul_cblas_scratch(&a, workers)
                         : cadft__matmul_scratch(device->table, &a, workers);
}

static int is_weight(int32_t dtype)
{
    return dtype == CADFT_DTYPE_F32 || dtype == CADFT_DTYPE_BF16;
}

int32_t cadft__cpu_matmul(cadft_device *device,
                          void *stream,
                          const cadft_matmul_args *args,
                          cadft_error *error)
{
    cadft__matmul_args a = plain(args);
    void *work = cadft__cpu_address(&args->work);
    int32_t status;
    (void)stream;
    if (!is_weight(args->b_dtype) ||
        (args->bias.base && !is_weight(args->bias_dtype)))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "matmul: b or bias is neither float32 nor bfloat16");
    if (!work && cadft__cpu_matmul_work_bytes(device, args))
        return cadft__fail(error, CADFT_E_NULL,
                           "matmul: work is absent, expected work_bytes of it");
    status = device->sgemm
                 ? cadft__matmul_cblas(device->sgemm, &a, device->host, work)
                 : cadft__matmul(device->table, &a, device->host, work);
    if (status == CADFT_E_THREADS)
        return cadft__fail(error, status,
                           "parallel_for did not run all tasks of a product");
    if (status)
        return cadft__fail(error, status,
                           "matmul: a size or stride is beyond the CBLAS's "
                           "32-bit integers");
    return CADFT_OK;
}
