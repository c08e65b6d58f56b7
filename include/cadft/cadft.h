/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file cadft.h
 * All that a trainer includes.
 *
 * libcadft computes the loss of Compatibility-Aware Dynamic Fine-Tuning. A
 * trainer hands over logits, labels and which demonstration each row belongs
 * to, and gets the gradient with respect to the logits back:
 *
 *     cadft_context *ctx;                       // threads, memory, kernels
 *     cadft_loss *loss;                         // defaults: CADFT
 *     cadft_context_create(NULL, &ctx, NULL);
 *     cadft_loss_create(ctx, &loss, NULL);
 *
 *     int64_t shape[2] = {rows, vocab};
 *     cadft_tensor logits, labels, ids;
 *     cadft_tensor_init(&logits, sizeof logits, z, CADFT_DTYPE_F32, 2, shape,
 *                       NULL, NULL);
 *     cadft_tensor_init(&labels, sizeof labels, y, CADFT_DTYPE_I32, 1, shape,
 *                       NULL, NULL);
 *     cadft_tensor_init(&ids, sizeof ids, s, CADFT_DTYPE_I32, 1, shape, NULL,
 *                       NULL);
 *     cadft_loss_batch batch = {.struct_size = sizeof batch,
 *                               .logits = &logits,
 *                               .labels = &labels,
 *                               .sample_ids = &ids};
 *     cadft_loss_report report = {.struct_size = sizeof report};
 *     cadft_loss_compute(loss, &batch, n_samples, &logits, NULL, &report,
 *                        &err);                 // gradient over the logits
 *
 * With gradient accumulation or several processes the same is done in
 * phases: loss.h. doc/embedding.md shows both with packing and accumulation,
 * doc/parallel.md several processes.
 *
 * It can also run the transformer between tokens and logits, forward and
 * backward, from a folder of Hugging Face, and change its weights by the
 * gradients: model.h, optimizer.h, doc/model.md and doc/optimizer.md.
 * doc/trainer.md puts all parts together.
 *
 *     cadft_model_zero_grad(model, &err);
 *     cadft_model_forward(model, &tokens, &logits, &err);
 *     cadft_loss_compute(loss, &batch, n_samples, &logits, NULL, NULL, &err);
 *     cadft_model_backward(model, &logits, &err);
 *     cadft_optimizer_step(optimizer, NULL, NULL, &err);
 *
 * Samples that stay incompatible can get the model's own answers as targets:
 * rewrite.h and doc/rewriting.md.
 *
 * A run that was stopped, or killed, goes on from its newest checkpoint, bit
 * for bit: checkpoint.h and doc/checkpoints.md.
 */
#ifndef CADFT_CADFT_H
#define CADFT_CADFT_H

#include "cadft/base.h"
#include "cadft/checkpoint.h"
#include "cadft/loss.h"
#include "cadft/model.h"
#include "cadft/optimizer.h"
#include "cadft/rewrite.h"

#endif
