/* SPDX-License-Identifier: Apache-2.0 */
/* How a Tensor comes to its memory. */
#include <string.h>

#include "tensor.h"

const tensor_dtype tensor_dtypes[N_TYPES] = {
    {"float32", CADFT_DTYPE_F32, "f"}, {"float16", CADFT_DTYPE_F16, "e"},
    {"float64", CADFT_DTYPE_F64, "d"}, {"bfloat16", CADFT_DTYPE_BF16, "H"},
    {"int32", CADFT_DTYPE_I32, "i"},   {"int64", CADFT_DTYPE_I64, "q"}};

/* ------------------------------------------------------------- letting go */

void tensor_let_go(tensor_object *self)
{
    PyObject *capsule = self->capsule, *owner = self->owner;
    self->is_set = 0;
    self->tensor.data = NULL;
    self->capsule = self->owner = NULL;
    if (self->borrowed)
        --*self->borrowed;
    self->borrowed = NULL;
    if (self->buffer.obj)
        PyBuffer_Release(&self->buffer);
    Py_XDECREF(capsule);
    Py_XDECREF(owner);
}

int tensor_check_no_exports(tensor_object *self)
{
    if (!self->exports)
        return 0;
    PyErr_SetString(PyExc_BufferError,
                    "an array still looks at this memory: delete it first");
    return -1;
}

/* ---------------------------------------------------- the buffer protocol */

/* Type of a format such as "f", "<i", "l"; -1 with an exception if it has no
 * number in DLPack. Those that the library does not know are its to refuse. */
static int set_format(cadft_tensor *t, const char *format, Py_ssize_t size)
{
    const char *f = format ? format : "B";
    if (*f == '@' || *f == '=' || (*f == '<' && PY_LITTLE_ENDIAN))
        f++;
    if (*f && !f[1] && strchr("bhilqn", *f))
        t->dtype_code = 0;
    else if (*f && !f[1] && strchr("BHILQN", *f))
        t->dtype_code = 1;
    else if (*f && !f[1] && strchr("efd", *f))
        t->dtype_code = 2;
    else if (*f == '?' && !f[1])
        t->dtype_code = 6;
    else {
        PyErr_Format(PyExc_TypeError,
                     "elements of format '%s': expected numbers in the "
                     "machine's byte order",
                     format);
        return -1;
    }
    t->dtype_bits = (uint8_t)(8 * size);
    t->dtype_lanes = 1;
    return 0;
}

int tensor_check_dims(Py_ssize_t ndim)
{
    if (ndim <= CADFT_NDIM_MAX)
        return 0;
    PyErr_Format(PyExc_ValueError, "%zd dimensions: expected at most %d", ndim,
                 CADFT_NDIM_MAX);
    return -1;
}

/* After PyObject_GetBuffer. */
static int take_buffer(tensor_object *self)
{
    const Py_buffer *b = &self->buffer;
    cadft_tensor *t = &self->tensor;
    if (tensor_check_dims(b->ndim) || set_format(t, b->format, b->itemsize))
        return -1;
    t->ndim = b->ndim;
    t->strides = PyBuffer_IsContiguous(b, 'C') ? NULL : self->strides;
    for (int d = 0; d < b->ndim; d++) {
        self->shape[d] = b->shape[d];
        if (b->strides[d] % b->itemsize) {
            PyErr_Format(PyExc_ValueError,
                         "stride %zd of dimension %d: expected a multiple of "
                         "the element's %zd bytes",
                         b->strides[d], d, b->itemsize);
            return -1;
        }
        self->strides[d] = b->strides[d] / b->itemsize;
    }
    t->data = b->buf;
    t->device_type = CADFT_DEVICE_CPU;
    t->device_id = 0;
    t->byte_offset = 0;
    self->readonly = b->readonly != 0;
    return 0;
}

/* ----------------------------------------------------------------- DLPack */

/* As versioned, which says whether memory is read-only, where that matters and
 * the exporter knows of it. */
static PyObject *ask_dlpack(PyObject *object, int writable)
{
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    PyObject *capsule = NULL, *none, *names;
    if (!method)
        return NULL;
    if (writable) {
        none = PyTuple_New(0);
        names = Py_BuildValue("{s(ii)}", "max_version", 1, 0);
        if (none && names)
            capsule = PyObject_Call(method, none, names);
        Py_XDECREF(none);
        Py_XDECREF(names);
        if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Clear();
    }
    if (!capsule && !PyErr_Occurred())
        capsule = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return capsule;
}

/* Row-major without gaps: PyTorch gives strides of such tensors, too. */
static int are_dense(const tensor_object *self)
{
    int64_t dense = 1;
    for (int32_t d = self->tensor.ndim - 1; d >= 0; d--) {
        if (self->shape[d] > 1 && self->strides[d] != dense)
            return 0;
        dense *= self->shape[d];
    }
    return 1;
}

/* The capsule is kept as it is, not renamed to "used_...": its own destructor
 * then calls the deleter. */
static int take_dlpack(tensor_object *self, PyObject *object, int writable)
{
    const dl_tensor *dl;
    cadft_tensor *t = &self->tensor;
    self->readonly = 0;
    self->capsule = ask_dlpack(object, writable);
    if (!self->capsule)
        return -1;
    if (PyCapsule_IsValid(self->capsule, "dltensor_versioned")) {
        const dl_managed_versioned *m =
            PyCapsule_GetPointer(self->capsule, "dltensor_versioned");
        self->readonly = (m->flags & DL_READ_ONLY) != 0;
        dl = &m->tensor;
    } else {
        const dl_managed *m = PyCapsule_GetPointer(self->capsule, "dltensor");
        if (!m)
            return -1;
        dl = &m->tensor;
    }
    if (tensor_check_dims(dl->ndim))
        return -1;
    t->data = dl->data;
    t->device_type = dl->device_type;
    t->device_id = dl->device_id;
    t->ndim = dl->ndim;
    t->dtype_code = dl->dtype_code;
    t->dtype_bits = dl->dtype_bits;
    t->dtype_lanes = dl->dtype_lanes;
    t->byte_offset = dl->byte_offset;
    t->strides = dl->strides ? self->strides : NULL;
    for (int32_t d = 0; d < dl->ndim; d++) {
        self->shape[d] = dl->shape[d];
        self->strides[d] = dl->strides ? dl->strides[d] : 0;
    }
    if (are_dense(self))
        t->strides = NULL;
    return 0;
}

/* ----------------------------------------------------------------- taking */

/* PyTorch hands on no tensor that requires a gradient, but its detached self,
 * of the same memory. A new reference. */
static PyObject *without_grad(PyObject *object)
{
    PyObject *flag = PyObject_GetAttrString(object, "requires_grad");
    int is_true = flag ? PyObject_IsTrue(flag) : 0;
    Py_XDECREF(flag);
    PyErr_Clear();
    if (is_true > 0)
        return PyObject_CallMethod(object, "detach", NULL);
    Py_INCREF(object);
    return object;
}

/* Is the array's dtype called bfloat16 (ml_dtypes)? It has no buffer. Leaves a
 * pending exception as it is. */
static int is_bfloat16(PyObject *object)
{
    PyObject *kind, *value, *trace, *dtype, *name = NULL;
    int is = 0;
    PyErr_Fetch(&kind, &value, &trace);
    dtype = PyObject_GetAttrString(object, "dtype");
    if (dtype)
        name = PyObject_GetAttrString(dtype, "name");
    if (name && PyUnicode_Check(name))
        is = PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0;
    Py_XDECREF(name);
    Py_XDECREF(dtype);
    PyErr_Restore(kind, value, trace);
    return is;
}

static void copy_tensor(tensor_object *self, tensor_object *from)
{
    self->tensor = from->tensor;
    memcpy(self->shape, from->shape, sizeof self->shape);
    memcpy(self->strides, from->strides, sizeof self->strides);
    self->tensor.shape = self->shape;
    if (self->tensor.strides)
        self->tensor.strides = self->strides;
    self->readonly = from->readonly;
    self->borrowed = &from->exports;
    ++from->exports;
    Py_INCREF(from);
    self->owner = (PyObject *)from;
}

static int take_array(tensor_object *self, PyObject *object, int writable)
{
    int flags = PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    PyObject *array, *words;
    int status;
    if (PyObject_CheckBuffer(object)) {
        if (PyObject_GetBuffer(object, &self->buffer, flags) == 0)
            return take_buffer(self);
        self->buffer.obj = NULL;
        if (!is_bfloat16(object))
            return -1;
        PyErr_Clear();
        words = PyObject_CallMethod(object, "view", "s", "uint16");
        status = words ? take_array(self, words, writable) : -1;
        Py_XDECREF(words);
        self->tensor.dtype_code = 4;
        return status;
    }
    if (!PyObject_HasAttrString(object, "__dlpack__")) {
        PyErr_Format(PyExc_TypeError,
                     "'%s' object: expected an array, by the buffer protocol "
                     "or __dlpack__",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    array = without_grad(object);
    status = array ? take_dlpack(self, array, writable) : -1;
    Py_XDECREF(array);
    return status;
}

static int set_dtype(tensor_object *self, PyObject *name)
{
    cadft_tensor *t = &self->tensor;
    for (int i = 0; i < N_TYPES; i++)
        if (PyUnicode_CompareWithASCIIString(name, tensor_dtypes[i].name) ==
            0) {
            int bits = tensor_dtypes[i].dtype >> 8 & 255;
            if (bits != t->dtype_bits * t->dtype_lanes) {
                PyErr_Format(PyExc_TypeError,
                             "dtype %U: the elements have %d bits", name,
                             t->dtype_bits * t->dtype_lanes);
                return -1;
            }
            t->dtype_code = (uint8_t)(tensor_dtypes[i].dtype & 255);
            return 0;
        }
    PyErr_Format(PyExc_TypeError, "dtype %R: expected one of the library's",
                 name);
    return -1;
}

int tensor_take(tensor_object *self,
                PyObject *object,
                int writable,
                PyObject *dtype)
{
    int status = 0;
    if (tensor_check_no_exports(self))
        return -1;
    tensor_let_go(self);
    if (Py_TYPE(object) == &tensor_type) {
        if (!((tensor_object *)object)->is_set) {
            PyErr_SetString(PyExc_ValueError, "the tensor's memory is gone");
            return -1;
        }
        copy_tensor(self, (tensor_object *)object);
    } else
        status = take_array(self, object, writable);
    if (!status && dtype)
        status = set_dtype(self, dtype);
    if (!status && writable && self->readonly) {
        PyErr_SetString(PyExc_ValueError, "array is read-only: it is to be "
                                          "written");
        status = -1;
    }
    if (status) {
        tensor_let_go(self);
        return -1;
    }
    self->is_set = 1;
    return 0;
}
