// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
*/
import "C"

import (
	"errors"
	"sync"
	"unsafe"
)

// Views of a handle's memory that die before it, by what makes them void.
const (
	forEver     = iota
	activations // of a model: the next forward pass, generation, ...
	gradients   // of a model: freezing
	lives
)

// A handle owns one reference to something of the library. Two things keep it
// from being destroyed by Close: the call that it is inside (at most one) and
// those that hold it (a context, whose memory a tensor shows, ...); the last
// to leave destroys it then.
type handle struct {
	mu     sync.Mutex
	ptr    unsafe.Pointer
	name   string
	free   func(unsafe.Pointer)
	busy   bool
	closed bool
	holds  int
	epoch  [lives]uint64
	failed *failure // of the callbacks that belong to this handle, or nil
}

func (h *handle) open(name string, ptr unsafe.Pointer, free func(unsafe.Pointer)) {
	h.name, h.ptr, h.free = name, ptr, free
}

// Close gives the handle up. A second Close does nothing.
func (h *handle) Close() error {
	h.mu.Lock()
	h.closed = true
	h.unlock()
	return nil
}

// unlock destroys what nobody needs any more; with the mutex open, because a
// destroy may call back.
func (h *handle) unlock() {
	var ptr unsafe.Pointer
	if h.closed && !h.busy && h.holds == 0 {
		ptr, h.ptr = h.ptr, nil
	}
	h.mu.Unlock()
	if ptr != nil {
		h.free(ptr)
	}
}

// enter starts a call that must be alone; leave ends it.
func (h *handle) enter() (unsafe.Pointer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.ptr == nil {
		return nil, ErrClosed
	}
	if h.busy {
		return nil, fail(ErrBusy, "%s is inside another call: from a callback, or from a second goroutine", h.name)
	}
	h.busy = true
	return h.ptr, nil
}

func (h *handle) leave() {
	h.mu.Lock()
	h.busy = false
	h.unlock()
}

// hold keeps what the handle owns while others may use it; release ends that.
func (h *handle) hold() (unsafe.Pointer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.ptr == nil {
		return nil, ErrClosed
	}
	h.holds++
	return h.ptr, nil
}

func (h *handle) release() {
	h.mu.Lock()
	h.holds--
	h.unlock()
}

// age makes the views of this life void.
func (h *handle) age(life int) {
	h.mu.Lock()
	h.epoch[life]++
	h.mu.Unlock()
}

func (h *handle) now(life int) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch[life]
}

// call makes a call of the library on the handle, with tensors whose memory
// stays for its time.
func (h *handle) call(f func(p unsafe.Pointer, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	p, err := h.enter()
	if err != nil {
		return err
	}
	defer h.leave()
	err = with(tensors, func(e *C.cadft_error) C.int32_t { return f(p, e) })
	var e *Error
	if h.failed != nil && errors.As(err, &e) && e.Status == ErrCallback {
		e.cause = h.failed.take()
	}
	return err
}

// with makes a call of the library with these tensors.
func with(tensors []*Tensor, f func(e *C.cadft_error) C.int32_t) error {
	for i, t := range tensors {
		if err := t.hold(); err != nil {
			for _, held := range tensors[:i] {
				held.release()
			}
			return err
		}
	}
	err := try(f)
	for _, t := range tensors {
		t.release()
	}
	return err
}
