/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file cadft.hpp
 * libcadft for C++17 and later: headers alone, over the C of cadft.h.
 *
 *     auto ctx = cadft::context::create();      // threads, memory, kernels
 *     cadft::loss loss(ctx);                    // defaults: CADFT
 *     cadft::tensor logits = cadft::matrix(z, rows, vocab);
 *     const cadft_loss_report report =
 *         loss.compute({logits, labels, sample_ids}, n_samples, logits);
 *
 * Each noun of C is a class that owns a handle and is moved, not copied:
 * context, loss, model, optimizer, rewrite; checkpoint is a struct. Their
 * functions are those of C without the noun's name; the headers of C say what
 * they do, with shapes, threads and errors, and these say what differs.
 * get() is the handle of C, and a constructor adopts one. Handles may be
 * destroyed in any order.
 *
 * Errors are exceptions, or results with -fno-exceptions: cpp/call.hpp, which
 * also says what becomes of an exception in a callback. Tensors and spans are
 * views that allocate nothing and keep shape and strides: cpp/tensor.hpp.
 */
#ifndef CADFT_CADFT_HPP
#define CADFT_CADFT_HPP

#include "cadft/cadft.h"
#include "cadft/cpp/checkpoint.hpp"
#include "cadft/cpp/context.hpp"
#include "cadft/cpp/loss.hpp"
#include "cadft/cpp/model.hpp"
#include "cadft/cpp/optimizer.hpp"
#include "cadft/cpp/rewrite.hpp"

#endif
