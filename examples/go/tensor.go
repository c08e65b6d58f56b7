// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"
)

// F16 is a half-precision number, BF16 the upper half of a float32.
type (
	F16  uint16
	BF16 uint16
)

// Element is what a tensor has.
type Element interface {
	float32 | float64 | int32 | int64 | F16 | BF16
}

// A DType is the data type of a tensor's elements.
type DType int32

// The data types.
const (
	Int32    DType = C.CADFT_DTYPE_I32
	Int64    DType = C.CADFT_DTYPE_I64
	Float16  DType = C.CADFT_DTYPE_F16
	Float32  DType = C.CADFT_DTYPE_F32
	Float64  DType = C.CADFT_DTYPE_F64
	BFloat16 DType = C.CADFT_DTYPE_BF16
)

func (d DType) String() string {
	switch d {
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Float16:
		return "float16"
	case Float32:
		return "float32"
	case Float64:
		return "float64"
	case BFloat16:
		return "bfloat16"
	}
	return fmt.Sprintf("DType(%#x)", int32(d))
}

// size of an element in bytes; 0 of what is none of these.
func (d DType) size() int {
	switch d {
	case Float16, BFloat16:
		return 2
	case Int32, Float32:
		return 4
	case Int64, Float64:
		return 8
	}
	return 0
}

func dtypeOf[T Element]() DType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int32:
		return Int32
	case int64:
		return Int64
	case F16:
		return Float16
	default:
		return BFloat16
	}
}

// A Tensor is a view of memory: of a slice (View), of a Buffer, or of a model
// (logits, parameters, gradients). The zero Tensor is none. It keeps a slice,
// and a handle whose memory it shows, from being collected; after that
// handle's Close, or when the memory has moved on (the logits of an earlier
// forward pass), calls refuse it.
//
// A view that does not fit its slice is an error of the call that is given it.
type Tensor struct {
	data  unsafe.Pointer
	view  C.gocadft_view
	space int // elements from data on
	err   error
	owner *handle // of the memory, or nil: Go's
	life  int
	born  uint64
}

// View is a tensor over a slice, row-major and dense. Without a shape it has
// one dimension, the length of the slice. The slice may be longer than needed.
func View[T Element](data []T, shape ...int) Tensor {
	if len(shape) == 0 {
		shape = []int{len(data)}
	}
	t := viewOf(dtypeOf[T](), shape)
	t.space = len(data)
	if len(data) > 0 {
		t.data = unsafe.Pointer(&data[0])
	}
	t.check()
	return t
}

func viewOf(d DType, shape []int) Tensor {
	t := Tensor{view: C.gocadft_view{
		dtype: C.int32_t(d), present: 1, device_type: C.CADFT_DEVICE_CPU}}
	if len(shape) > C.CADFT_NDIM_MAX {
		t.err = fail(ErrShape, "a tensor has %d dimensions, expected at most %d", len(shape), int(C.CADFT_NDIM_MAX))
		return t
	}
	t.view.ndim = C.int32_t(len(shape))
	for i, n := range shape {
		t.view.shape[i] = C.int64_t(n)
		if n < 0 {
			t.err = fail(ErrShape, "a tensor has shape %v, expected none below 0", shape)
		}
	}
	return t
}

// Strided is the view with other strides, in elements.
func (t Tensor) Strided(strides ...int) Tensor {
	if t.err != nil {
		return t
	}
	if len(strides) != int(t.view.ndim) {
		t.err = fail(ErrShape, "a tensor has %d strides for %d dimensions", len(strides), int(t.view.ndim))
		return t
	}
	for i, n := range strides {
		t.view.strides[i] = C.int64_t(n)
	}
	t.view.strided = 1
	t.check()
	return t
}

// check that no element lies outside: C does not know where the slice ends.
func (t *Tensor) check() {
	if t.err != nil || !t.IsPresent() {
		return
	}
	last, dense := 0, 1
	for i := int(t.view.ndim) - 1; i >= 0; i-- {
		n, stride := int(t.view.shape[i]), dense
		if t.view.strided != 0 {
			stride = int(t.view.strides[i])
		}
		switch {
		case stride < 0:
			t.err = fail(ErrShape, "a tensor has stride %d in dimension %d, expected none below 0", stride, i)
			return
		case n == 0:
			return // no element, wherever they are
		case n > 1 && stride > (math.MaxInt-last)/(n-1), dense > math.MaxInt/n:
			t.err = fail(ErrShape, "a tensor of shape %v is larger than memory", t.Shape())
			return
		}
		last += (n - 1) * stride
		dense *= n
	}
	if last >= t.space {
		t.err = fail(ErrShape, "a tensor of shape %v needs %d elements, the slice has %d", t.Shape(), last+1, t.space)
	}
}

// IsPresent is false for the zero Tensor.
func (t Tensor) IsPresent() bool { return t.view.present != 0 }

// DType is the data type of the elements.
func (t Tensor) DType() DType { return DType(t.view.dtype) }

// Shape has one number a dimension.
func (t Tensor) Shape() []int {
	shape := make([]int, t.view.ndim)
	for i := range shape {
		shape[i] = int(t.view.shape[i])
	}
	return shape
}

// Len is the number of elements.
func (t Tensor) Len() int {
	if !t.IsPresent() || t.err != nil {
		return 0
	}
	n := 1
	for i := 0; i < int(t.view.ndim); i++ {
		n *= int(t.view.shape[i])
	}
	return n
}

func (t Tensor) isDense() bool {
	want := 1
	for i := int(t.view.ndim) - 1; i >= 0 && t.view.strided != 0; i-- {
		if t.view.shape[i] != 1 && int(t.view.strides[i]) != want {
			return false
		}
		want *= int(t.view.shape[i])
	}
	return true
}

// Slice is the memory of a dense tensor, not a copy. Memory of a model or a
// Buffer is C's: the slice does not keep it alive, and must not be used after
// the handle was closed or collected (runtime.KeepAlive, or a deferred Close),
// or when the tensor is void. Memory of a device is read by Context.Read.
func Slice[T Element](t Tensor) ([]T, error) {
	if err := t.hold(); err != nil {
		return nil, err
	}
	defer t.release()
	if !t.IsPresent() {
		return nil, fail(ErrNull, "the zero Tensor has no memory")
	}
	if want := dtypeOf[T](); t.DType() != want {
		return nil, fail(ErrDType, "a tensor of %v is no slice of %v", t.DType(), want)
	}
	if t.view.device_type != C.CADFT_DEVICE_CPU {
		return nil, fail(ErrDevice, "a tensor on device %d is no slice", int(t.view.device_type))
	}
	if !t.isDense() {
		return nil, fail(ErrShape, "a tensor with gaps is no slice")
	}
	return unsafe.Slice((*T)(t.data), t.Len()), nil
}

// hold keeps the memory for a call; release ends that.
func (t *Tensor) hold() error {
	if t.err != nil || t.owner == nil {
		return t.err
	}
	_, err := t.owner.hold(t.life, t.born)
	return err
}

func (t *Tensor) release() {
	if t.owner != nil {
		t.owner.release(t.life)
	}
	runtime.KeepAlive(t.data)
}

// at is the address for C.
func (t *Tensor) at() *C.char { return (*C.char)(t.data) }

// pointer to the first element, nil without any.
func pointer[T any](s []T) unsafe.Pointer {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Pointer(&s[0])
}

// A Buffer is memory of C, zero at first, for arrays that the library keeps
// beyond a call: parameters of the host's for an Optimizer. Memory of Go may
// not be kept by C.
type Buffer struct {
	handle
	view C.gocadft_view
	len  int
}

// NewBuffer allocates one.
func NewBuffer(d DType, shape ...int) (*Buffer, error) {
	t := viewOf(d, shape)
	if d.size() == 0 {
		return nil, fail(ErrDType, "a buffer of %v, expected a data type of this package", d)
	}
	t.space = math.MaxInt / 8
	if t.check(); t.err != nil {
		return nil, t.err
	}
	n := t.Len()
	if n == 0 {
		n = 1 // some address, for calloc is free to give none
	}
	memory := C.calloc(C.size_t(n), C.size_t(d.size()))
	if memory == nil {
		return nil, fail(ErrNoMem, "no memory for %d elements", t.Len())
	}
	b := &Buffer{view: t.view, len: t.Len()}
	b.open("buffer", memory, func(p unsafe.Pointer) { C.free(p) })
	runtime.SetFinalizer(b, func(b *Buffer) { b.Close() })
	return b, nil
}

// Tensor is the buffer's memory, until Close.
func (b *Buffer) Tensor() Tensor {
	p, err := b.hold(forEver, 0)
	if err != nil {
		return Tensor{err: err, view: b.view}
	}
	defer b.release(forEver)
	return Tensor{data: p, view: b.view, space: b.len, owner: &b.handle}
}
