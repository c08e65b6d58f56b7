/* SPDX-License-Identifier: Apache-2.0 */
/* Names of ours, and of a CBLAS, that a host may happen to export. Apart from
 * hijack.c because their types are wrong on purpose. */
extern int hijacked;
int hijacked;

#define FAKE(name)                                                             \
    int name(void);                                                            \
    int name(void)                                                             \
    {                                                                          \
        hijacked++;                                                            \
        return -1;                                                             \
    }

/* between our files, between core and kernels, from one noun to its parts */
FAKE(cadft__alloc)
FAKE(cadft__fail)
FAKE(cadft__error_enter)
FAKE(cadft__pool_run)
FAKE(cadft__isa_pick)
FAKE(cadft__cpu_backend)
FAKE(cadftk_table_c)
/* public names that the library uses itself, of another cadft in the host */
FAKE(cadft_status_string)
FAKE(cadft_loss_begin)
FAKE(cadft_loss_observe)
FAKE(cadft_loss_weigh)
FAKE(cadft_loss_grad)
FAKE(cadft_loss_end)
FAKE(cblas_sgemm)
