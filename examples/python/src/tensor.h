/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor: a cadft_tensor of somebody else's memory, which it keeps alive.
 *
 * Written in C because it runs several times in each call: it takes memory by
 * the buffer protocol or by DLPack (take.c) and hands it on by either
 * (tensor.c), without a copy. Python sees its cadft_tensor as an address. */
#ifndef CADFT_PYTHON_TENSOR_H
#define CADFT_PYTHON_TENSOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "cadft/base.h"
#include "dlpack.h"

typedef struct {
    PyObject_HEAD cadft_tensor tensor;
    int64_t shape[CADFT_NDIM_MAX],
        strides[CADFT_NDIM_MAX]; /* strides in elements */
    Py_ssize_t byte_strides[CADFT_NDIM_MAX], byte_shape[CADFT_NDIM_MAX];
    Py_buffer buffer;     /* .obj is NULL: memory came in another way */
    PyObject *capsule;    /* of DLPack, or NULL */
    PyObject *owner;      /* keeps the memory of the library, or NULL */
    Py_ssize_t exports;   /* who looks at the memory through this object */
    Py_ssize_t *borrowed; /* exports of the Tensor this one was made of */
    PyObject *weak;       /* weak references to this object */
    char is_set, readonly;
} tensor_object;

/* Data types of the library. */
typedef struct {
    const char *name;
    int32_t dtype;
    const char *format; /* of the buffer protocol; bfloat16 has none */
} tensor_dtype;

enum { N_TYPES = 6 };
extern const tensor_dtype tensor_dtypes[N_TYPES];
extern PyTypeObject tensor_type;

/* Give the memory back; the object is empty then. */
void tensor_let_go(tensor_object *self);

/* -1 with an exception if somebody looks at the memory through the object. */
int tensor_check_no_exports(tensor_object *self);

/* Look at an array from now on. `dtype`: the name of what its elements are, or
 * NULL. -1 with an exception, and an empty object, if that cannot be. */
int tensor_take(tensor_object *self,
                PyObject *object,
                int writable,
                PyObject *dtype);

/* -1 with an exception if there are more than CADFT_NDIM_MAX. */
int tensor_check_dims(Py_ssize_t ndim);

#endif
