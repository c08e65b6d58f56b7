/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_saved.h"

#include <string.h>

#include "model/transformer.h"

const char *cadft__model_origin(const cadft_model *model)
{
    return model->origin.folder;
}

void cadft__model_move(cadft_model *model, char **path, size_t *size)
{
    char *old = model->origin.folder;
    size_t old_size = model->origin.folder_size;
    model->origin.folder = *path;
    model->origin.folder_size = *size;
    *path = old;
    *size = old_size;
}

int32_t cadft__model_needs(const cadft_model *model,
                           int32_t weights,
                           cadft_error *error)
{
    return weights ? cadft__needs_weights(model, error)
                   : cadft__needs_no_weights(model, error);
}

int32_t cadft__model_write(const cadft_model *model,
                           const cadft__save *save,
                           cadft_error *error)
{
    int32_t status = cadft__needs_weights(model, error);
    return status ? status
                  : cadft__weights_write(model->handle.context, save,
                                         &model->parameters, &model->origin,
                                         error);
}

int32_t cadft__model_read(cadft_model *model,
                          const cadft__folder *folder,
                          const char *path,
                          cadft_error *error)
{
    int32_t status = cadft__needs_no_weights(model, error);
    if (!status)
        status = cadft__weights_read(model->handle.context, folder, path,
                                     (int32_t)model->options.weight_dtype,
                                     &model->config, &model->parameters,
                                     &model->origin, error);
    if (!status)
        model->has_weights = 1;
    return status;
}

void cadft__model_unread(cadft_model *model)
{
    cadft_context *context = model->handle.context;
    cadft__parameters_free(context, &model->parameters);
    cadft__origin_free(context, &model->origin);
    memset(&model->config, 0, sizeof model->config);
    model->has_weights = 0;
}
