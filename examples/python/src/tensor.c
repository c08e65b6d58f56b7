/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor: a cadft_tensor of somebody else's memory, which it keeps alive.
 *
 * Written in C because it runs several times in each call: it takes memory by
 * the buffer protocol or by DLPack and hands it on by either, without a copy.
 * Python sees its cadft_tensor as an address. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "cadft/base.h"
#include "dlpack.h"

enum { MOST_DIMS = 8 };

typedef struct {
    PyObject_HEAD cadft_tensor tensor;
    int64_t shape[MOST_DIMS], strides[MOST_DIMS]; /* strides in elements */
    Py_ssize_t byte_strides[MOST_DIMS], byte_shape[MOST_DIMS];
    Py_buffer buffer;     /* .obj is NULL: memory came in another way */
    PyObject *capsule;    /* of DLPack, or NULL */
    PyObject *owner;      /* keeps the memory of the library, or NULL */
    Py_ssize_t exports;   /* who looks at the memory through this object */
    Py_ssize_t *borrowed; /* exports of the Tensor this one was made of */
    char is_set, readonly;
} tensor_object;

static PyTypeObject tensor_type;

static const struct {
    const char *name;
    int32_t dtype;
    const char *format; /* of the buffer protocol; bfloat16 has none */
} types[] = {
    {"float32", CADFT_DTYPE_F32, "f"}, {"float16", CADFT_DTYPE_F16, "e"},
    {"float64", CADFT_DTYPE_F64, "d"}, {"bfloat16", CADFT_DTYPE_BF16, "H"},
    {"int32", CADFT_DTYPE_I32, "i"},   {"int64", CADFT_DTYPE_I64, "q"}};
enum { N_TYPES = sizeof types / sizeof types[0] };

static int32_t dtype_of(const cadft_tensor *t)
{
    return t->dtype_code | t->dtype_bits << 8 | t->dtype_lanes << 16;
}

static Py_ssize_t item_size(const cadft_tensor *t)
{
    return (t->dtype_bits * t->dtype_lanes + 7) / 8;
}

static int64_t count_of(const tensor_object *self)
{
    int64_t n = 1;
    for (int32_t d = 0; d < self->tensor.ndim; d++)
        n *= self->shape[d];
    return n;
}

/* ----------------------------------------------------------------- letting go
 */

/* Give the memory back; the object is empty then. */
static void let_go(tensor_object *self)
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

static int check_no_exports(tensor_object *self)
{
    if (!self->exports)
        return 0;
    PyErr_SetString(PyExc_BufferError,
                    "an array still looks at this memory: delete it first");
    return -1;
}

/* --------------------------------------------------------- the buffer protocol
 */

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

static int check_dims(Py_ssize_t ndim)
{
    if (ndim <= MOST_DIMS)
        return 0;
    PyErr_Format(PyExc_ValueError, "%zd dimensions: expected at most %d", ndim,
                 MOST_DIMS);
    return -1;
}

/* After PyObject_GetBuffer. */
static int take_buffer(tensor_object *self)
{
    const Py_buffer *b = &self->buffer;
    cadft_tensor *t = &self->tensor;
    if (check_dims(b->ndim) || set_format(t, b->format, b->itemsize))
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

/* --------------------------------------------------------------------- DLPack
 */

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
    if (check_dims(dl->ndim))
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
    return 0;
}

/* ---------------------------------------------------------------------- taking
 */

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
        if (PyUnicode_CompareWithASCIIString(name, types[i].name) == 0) {
            int bits = types[i].dtype >> 8 & 255;
            if (bits != t->dtype_bits * t->dtype_lanes) {
                PyErr_Format(PyExc_TypeError,
                             "dtype %U: the elements have %d bits", name,
                             t->dtype_bits * t->dtype_lanes);
                return -1;
            }
            t->dtype_code = (uint8_t)(types[i].dtype & 255);
            return 0;
        }
    PyErr_Format(PyExc_TypeError, "dtype %R: expected one of the library's",
                 name);
    return -1;
}

static int
take(tensor_object *self, PyObject *object, int writable, PyObject *dtype)
{
    int status = 0;
    if (check_no_exports(self))
        return -1;
    let_go(self);
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
        let_go(self);
        return -1;
    }
    self->is_set = 1;
    return 0;
}

/* --------------------------------------------------------------------- methods
 */

static PyObject *
tensor_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"array", "dtype", "writable", NULL};
    PyObject *object = NULL, *dtype = NULL;
    int writable = 0;
    tensor_object *self;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OUp:Tensor", names,
                                     &object, &dtype, &writable))
        return NULL;
    self = (tensor_object *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->tensor.struct_size = sizeof self->tensor;
    self->tensor.shape = self->shape;
    if (object && take(self, object, writable, dtype)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void tensor_dealloc(PyObject *object)
{
    let_go((tensor_object *)object);
    Py_TYPE(object)->tp_free(object);
}

PyDoc_STRVAR(point_doc,
             "_point(array, writable)\n--\n\n"
             "Look at another array from now on.");
static PyObject *
tensor_point(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "_point takes two arguments");
        return NULL;
    }
    if (take((tensor_object *)self, args[0], args[1] == Py_True, NULL))
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(adopt_doc,
             "_adopt(address, owner)\n--\n\n"
             "Look at what the cadft_tensor at the address describes, memory\n"
             "of the library that owner keeps alive.");
static PyObject *tensor_adopt(PyObject *object, PyObject *args)
{
    tensor_object *self = (tensor_object *)object;
    unsigned long long address;
    PyObject *owner;
    const cadft_tensor *from;
    if (!PyArg_ParseTuple(args, "KO", &address, &owner))
        return NULL;
    from = (const cadft_tensor *)(uintptr_t)address;
    if (check_dims(from->ndim) || check_no_exports(self))
        return NULL;
    let_go(self);
    self->tensor = *from;
    self->tensor.shape = self->shape;
    self->tensor.strides = from->strides ? self->strides : NULL;
    for (int32_t d = 0; d < from->ndim; d++) {
        self->shape[d] = from->shape[d];
        self->strides[d] = from->strides ? from->strides[d] : 0;
    }
    self->readonly = 0;
    self->is_set = 1;
    Py_INCREF(owner);
    self->owner = owner;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(release_doc,
             "release()\n--\n\n"
             "Give the memory back. BufferError while arrays look at it.");
static PyObject *tensor_release(PyObject *object, PyObject *ignored)
{
    (void)ignored;
    if (check_no_exports((tensor_object *)object))
        return NULL;
    let_go((tensor_object *)object);
    Py_RETURN_NONE;
}

static int check_set(tensor_object *self)
{
    if (self->is_set)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the tensor's memory is gone");
    return -1;
}

/* ------------------------------------------------------------------ handing on
 */

/* Strides in bytes, of dense memory too. */
static void fill_bytes(tensor_object *self, Py_ssize_t size)
{
    Py_ssize_t dense = size;
    for (int32_t d = self->tensor.ndim - 1; d >= 0; d--) {
        self->byte_shape[d] = self->shape[d];
        self->byte_strides[d] =
            self->tensor.strides ? self->strides[d] * size : dense;
        dense *= self->shape[d];
    }
}

static int tensor_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    tensor_object *self = (tensor_object *)object;
    const cadft_tensor *t = &self->tensor;
    const char *format = NULL;
    view->obj = NULL;
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dtype == dtype_of(t))
            format = types[i].format;
    if (!self->is_set || !format || t->device_type != CADFT_DEVICE_CPU ||
        (t->strides && (flags & PyBUF_STRIDES) != PyBUF_STRIDES)) {
        PyErr_SetString(PyExc_BufferError, "no memory that a buffer can show");
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, (char *)t->data + t->byte_offset,
                          count_of(self) * item_size(t), self->readonly, flags))
        return -1;
    fill_bytes(self, item_size(t));
    view->itemsize = item_size(t);
    view->format = flags & PyBUF_FORMAT ? (char *)(uintptr_t)format : NULL;
    if (flags & PyBUF_ND) {
        view->ndim = t->ndim;
        view->shape = self->byte_shape;
        view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES
                            ? self->byte_strides
                            : NULL;
    }
    self->exports++;
    return 0;
}

static void tensor_releasebuffer(PyObject *object, Py_buffer *view)
{
    (void)view;
    ((tensor_object *)object)->exports--;
}

/* May come from any thread, with or without the interpreter's lock. */
static void export_deleter(dl_managed *managed)
{
    PyGILState_STATE state = PyGILState_Ensure();
    tensor_object *self = managed->context;
    self->exports--;
    Py_DECREF(self);
    PyMem_RawFree(managed);
    PyGILState_Release(state);
}

static void export_destructor(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor"))
        export_deleter(PyCapsule_GetPointer(capsule, "dltensor"));
}

PyDoc_STRVAR(dlpack_doc,
             "__dlpack__(**ignored)\n--\n\n"
             "Hand the memory on, as the array API describes.");
static PyObject *
tensor_dlpack(PyObject *object, PyObject *args, PyObject *keywords)
{
    tensor_object *self = (tensor_object *)object;
    const cadft_tensor *t = &self->tensor;
    dl_managed *managed;
    PyObject *capsule;
    (void)args;
    (void)keywords;
    if (check_set(self))
        return NULL;
    if (self->readonly) {
        PyErr_SetString(PyExc_BufferError, "read-only memory");
        return NULL;
    }
    managed = PyMem_RawCalloc(1, sizeof *managed);
    if (!managed)
        return PyErr_NoMemory();
    managed->tensor =
        (dl_tensor){t->data,       t->device_type, t->device_id,   t->ndim,
                    t->dtype_code, t->dtype_bits,  t->dtype_lanes, self->shape,
                    t->strides,    t->byte_offset};
    managed->context = self;
    managed->deleter = export_deleter;
    capsule = PyCapsule_New(managed, "dltensor", export_destructor);
    if (!capsule) {
        PyMem_RawFree(managed);
        return NULL;
    }
    Py_INCREF(self);
    self->exports++;
    return capsule;
}

static PyObject *tensor_dlpack_device(PyObject *object, PyObject *ignored)
{
    const cadft_tensor *t = &((tensor_object *)object)->tensor;
    (void)ignored;
    return Py_BuildValue("(ii)", t->device_type, t->device_id);
}

/* ------------------------------------------------------------------ attributes
 */

static PyObject *get_address(PyObject *object, void *ignored)
{
    (void)ignored;
    return PyLong_FromVoidPtr(&((tensor_object *)object)->tensor);
}

static PyObject *get_data(PyObject *object, void *ignored)
{
    const cadft_tensor *t = &((tensor_object *)object)->tensor;
    (void)ignored;
    return PyLong_FromUnsignedLongLong((uintptr_t)t->data + t->byte_offset);
}

static PyObject *get_shape(PyObject *object, void *ignored)
{
    tensor_object *self = (tensor_object *)object;
    PyObject *shape;
    (void)ignored;
    if (check_set(self))
        return NULL;
    shape = PyTuple_New(self->tensor.ndim);
    for (int32_t d = 0; shape && d < self->tensor.ndim; d++) {
        PyObject *n = PyLong_FromLongLong(self->shape[d]);
        if (!n)
            Py_CLEAR(shape);
        else
            PyTuple_SET_ITEM(shape, d, n);
    }
    return shape;
}

static PyObject *get_dtype(PyObject *object, void *ignored)
{
    tensor_object *self = (tensor_object *)object;
    const cadft_tensor *t = &self->tensor;
    (void)ignored;
    if (check_set(self))
        return NULL;
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dtype == dtype_of(t))
            return PyUnicode_FromString(types[i].name);
    return PyUnicode_FromFormat("code %d, %d bits, %d lanes", t->dtype_code,
                                t->dtype_bits, t->dtype_lanes);
}

static PyObject *get_size(PyObject *object, void *ignored)
{
    (void)ignored;
    return PyLong_FromLongLong(count_of((tensor_object *)object));
}

static PyObject *get_is_dense(PyObject *object, void *ignored)
{
    (void)ignored;
    return PyBool_FromLong(!((tensor_object *)object)->tensor.strides);
}

static PyObject *get_exports(PyObject *object, void *ignored)
{
    (void)ignored;
    return PyLong_FromSsize_t(((tensor_object *)object)->exports);
}

static PyMethodDef methods[] = {
    {"_point", (PyCFunction)(void (*)(void))tensor_point, METH_FASTCALL,
     point_doc},
    {"_adopt", tensor_adopt, METH_VARARGS, adopt_doc},
    {"release", tensor_release, METH_NOARGS, release_doc},
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack,
     METH_VARARGS | METH_KEYWORDS, dlpack_doc},
    {"__dlpack_device__", tensor_dlpack_device, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef attributes[] = {
    {"_address", get_address, NULL, "where the cadft_tensor is", NULL},
    {"_exports", get_exports, NULL, "who looks at the memory", NULL},
    {"data", get_data, NULL, "address of the first element", NULL},
    {"shape", get_shape, NULL, "shape", NULL},
    {"size", get_size, NULL, "number of elements", NULL},
    {"dtype", get_dtype, NULL, "name of the data type", NULL},
    {"is_dense", get_is_dense, NULL, "row-major without gaps?", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyBufferProcs buffer_procs = {tensor_getbuffer, tensor_releasebuffer};

static PyTypeObject tensor_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cadft.Tensor",
    .tp_doc = "Tensor(array, dtype=None, writable=False)\n--\n\n"
              "A view of an array: of anything with the buffer protocol or\n"
              "__dlpack__, and it has both itself. dtype names what the "
              "elements are\nwhere the array cannot say it: 'bfloat16' in "
              "uint16.",
    .tp_basicsize = sizeof(tensor_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = tensor_new,
    .tp_dealloc = tensor_dealloc,
    .tp_methods = methods,
    .tp_getset = attributes,
    .tp_as_buffer = &buffer_procs,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT,
                                    .m_name = "cadft._tensor", .m_size = -1};

PyMODINIT_FUNC PyInit__tensor(void)
{
    PyObject *self;
    if (PyType_Ready(&tensor_type))
        return NULL;
    self = PyModule_Create(&module);
    Py_INCREF(&tensor_type);
    if (self && PyModule_AddObject(self, "Tensor", (PyObject *)&tensor_type)) {
        Py_DECREF(&tensor_type);
        Py_CLEAR(self);
    }
    return self;
}
