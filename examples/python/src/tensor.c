/* SPDX-License-Identifier: Apache-2.0 */
/* The module: the type Tensor, and how its memory is handed on. */
#include "tensor.h"

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

/* ---------------------------------------------------------------- methods */

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
    if (object && tensor_take(self, object, writable, dtype)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void tensor_dealloc(PyObject *object)
{
    if (((tensor_object *)object)->weak)
        PyObject_ClearWeakRefs(object);
    tensor_let_go((tensor_object *)object);
    Py_TYPE(object)->tp_free(object);
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
    if (tensor_check_dims(from->ndim) || tensor_check_no_exports(self))
        return NULL;
    tensor_let_go(self);
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
    if (tensor_check_no_exports((tensor_object *)object))
        return NULL;
    tensor_let_go((tensor_object *)object);
    Py_RETURN_NONE;
}

static int check_set(tensor_object *self)
{
    if (self->is_set)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the tensor's memory is gone");
    return -1;
}

/* ------------------------------------------------------------- handing on */

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
    if (check_set(self))
        return -1;
    for (int i = 0; i < N_TYPES; i++)
        if (tensor_dtypes[i].dtype == dtype_of(t))
            format = tensor_dtypes[i].format;
    if (!format || t->device_type != CADFT_DEVICE_CPU ||
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

/* May the memory be handed on, as the keywords of __dlpack__ ask? */
static int check_export(tensor_object *self, PyObject *keywords)
{
    const char *reason = NULL;
    if (check_set(self))
        return -1;
    if (self->readonly)
        reason = "read-only memory";
    else if (keywords && PyDict_GetItemString(keywords, "copy") == Py_True)
        reason = "copy=True: a Tensor is a view and makes no copies";
    if (!reason)
        return 0;
    PyErr_SetString(PyExc_BufferError, reason);
    return -1;
}

PyDoc_STRVAR(dlpack_doc,
             "__dlpack__(*, copy=None, **ignored)\n--\n\n"
             "Hand the memory on, as the array API describes, uncopied.");
static PyObject *
tensor_dlpack(PyObject *object, PyObject *args, PyObject *keywords)
{
    tensor_object *self = (tensor_object *)object;
    const cadft_tensor *t = &self->tensor;
    dl_managed *managed;
    PyObject *capsule;
    (void)args;
    if (check_export(self, keywords))
        return NULL;
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

/* ------------------------------------------------------------- attributes */

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
        if (tensor_dtypes[i].dtype == dtype_of(t))
            return PyUnicode_FromString(tensor_dtypes[i].name);
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

PyTypeObject tensor_type = {
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
    .tp_weaklistoffset = offsetof(tensor_object, weak),
    .tp_methods = methods,
    .tp_getset = attributes,
    .tp_as_buffer = &buffer_procs,
};

/* -------------------------------------------------------- several at once */

/* Tensors of a tuple, the last of which is to be written. */
static int check_tuple(PyObject *tuple, Py_ssize_t n)
{
    int is = PyTuple_Check(tuple) && (n < 0 || PyTuple_GET_SIZE(tuple) == n);
    for (Py_ssize_t i = 0; is && i < PyTuple_GET_SIZE(tuple); i++)
        is = Py_TYPE(PyTuple_GET_ITEM(tuple, i)) == &tensor_type;
    if (!is)
        PyErr_SetString(PyExc_TypeError, "expected a tuple of tensors");
    return is;
}

PyDoc_STRVAR(point_doc,
             "point_all(tensors, *arrays)\n--\n\n"
             "Let each tensor look at its array, if that is not\n"
             "None. The last one is to be written.");
static PyObject *point_all(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    if (n < 1 || !check_tuple(args[0], n - 1))
        return NULL;
    for (Py_ssize_t i = 1; i < n; i++) {
        PyObject *tensor = PyTuple_GET_ITEM(args[0], i - 1);
        if ((args[i] != Py_None || i <= 3) &&
            tensor_take((tensor_object *)tensor, args[i], i == n - 1, NULL))
            return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(release_all_doc,
             "release_all(tensors)\n--\n\n"
             "Give their memory back.");
static PyObject *release_all(PyObject *self, PyObject *tuple)
{
    (void)self;
    if (!check_tuple(tuple, -1))
        return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        tensor_object *tensor = (tensor_object *)PyTuple_GET_ITEM(tuple, i);
        if (tensor_check_no_exports(tensor))
            return NULL;
        tensor_let_go(tensor);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"point_all", (PyCFunction)(void (*)(void))point_all, METH_FASTCALL,
     point_doc},
    {"release_all", release_all, METH_O, release_all_doc},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT,
                                    .m_name = "cadft._tensor", .m_size = -1,
                                    .m_methods = functions};

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
