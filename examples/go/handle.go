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
// those that use it (a context, the memory that a tensor shows, ...); the last
// to leave destroys it then.
type handle struct {
	mu     sync.Mutex
	ptr    unsafe.Pointer
	name   string
	free   func(unsafe.Pointer)
	busy   bool
	closed bool
	epoch  [lives]uint64 // counts what makes views void
	used   [lives]int    // who holds what lives that long
	failed *failure      // of the callbacks that belong to this handle, or nil
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
	if h.closed && !h.busy && h.used == [lives]int{} {
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

// hold keeps what the handle owns, or its memory of a life that began with
// born, while others may use it; release ends that.
func (h *handle) hold(life int, born uint64) (unsafe.Pointer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed || h.ptr == nil:
		return nil, ErrClosed
	case h.epoch[life] != born:
		return nil, fail(ErrPhase, "a tensor shows memory of the %s that is gone since a later call", h.name)
	}
	h.used[life]++
	return h.ptr, nil
}

func (h *handle) release(life int) {
	h.mu.Lock()
	h.used[life]--
	h.unlock()
}

// age makes the views of this life void, unless a call uses one now: its
// memory would go under it.
func (h *handle) age(life int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case life == forEver:
		return nil
	case h.used[life] > 0:
		return fail(ErrBusy, "a call uses memory of the %s that this one gives up", h.name)
	}
	h.epoch[life]++
	return nil
}

// rejuvenate takes age back, before the call ends that has aged.
func (h *handle) rejuvenate(life int) {
	h.mu.Lock()
	h.epoch[life]--
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
	return h.callAging(forEver, f, tensors...)
}

// callAging makes a call that gives memory of this life up.
func (h *handle) callAging(life int, f func(p unsafe.Pointer, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	p, err := h.enter()
	if err != nil {
		return err
	}
	defer h.leave()
	var busy error
	err = with(tensors, func(e *C.cadft_error) C.int32_t {
		if busy = h.age(life); busy != nil {
			return C.CADFT_E_BUSY
		}
		return f(p, e)
	})
	if busy != nil {
		return busy
	}
	var e *Error
	if h.failed != nil && errors.As(err, &e) && e.Status == ErrCallback {
		e.cause = h.failed.take()
	}
	return err
}

// with makes a call of the library with these tensors.
func with(tensors []*Tensor, f func(e *C.cadft_error) C.int32_t) error {
	for _, t := range tensors {
		if err := t.hold(); err != nil {
			return err
		}
		defer t.release()
	}
	return try(f)
}

// copied is sized in a call of the handle.
func copied[T any](h *handle, first int, f func(p unsafe.Pointer, out *T, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t) ([]T, error) {
	p, err := h.enter()
	if err != nil {
		return nil, err
	}
	defer h.leave()
	return sized(first, func(out []T, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return f(p, (*T)(pointer(out)), C.size_t(len(out)), needed, e)
	})
}
