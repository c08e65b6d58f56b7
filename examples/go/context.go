// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
*/
import "C"

import (
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// A Context holds threads, memory and backend of what is made from it. All
// that is made from it keeps what it needs: a Context may be closed first.
type Context struct {
	handle
}

// LogLevel of a line.
type LogLevel int32

// Log levels.
const (
	LogWarning LogLevel = C.CADFT_LOG_WARNING
	LogInfo    LogLevel = C.CADFT_LOG_INFO
)

// Options of a Context. The zero value, like nil, means the defaults.
type Options struct {
	Threads        int    // own threads, the caller's included; 0: as many as there are processors
	Backend        string // "": the built-in one; with a '/': path of a plug-in
	BackendOptions string // passed to the backend: "avx2", "matmul=libopenblas.so.0"

	// Log gets lines up to LogLevel (0: LogWarning). Several goroutines may
	// call it at once. After a panic Context.Close returns a *PanicError.
	Log      func(level LogLevel, text string)
	LogLevel LogLevel

	// Allocator and Parallel are for hosts with C of their own: addresses of
	// a cadft_allocator and a cadft_parallel in C memory, or nil. Copied.
	Allocator, Parallel unsafe.Pointer
}

// NewContext creates a context; options may be nil.
func NewContext(options *Options) (*Context, error) {
	o := Options{}
	if options != nil {
		o = *options
	}
	backend, err := textOrNull("backend", o.Backend)
	if err != nil {
		return nil, err
	}
	backendOptions, err := textOrNull("backend options", o.BackendOptions)
	if err != nil {
		return nil, err
	}
	threads, err := small("threads", o.Threads)
	if err != nil {
		return nil, err
	}
	c := &Context{}
	log := C.uintptr_t(0)
	if o.Log != nil {
		if o.LogLevel == 0 {
			o.LogLevel = LogWarning
		}
		c.failed = &failure{}
		log = C.uintptr_t(cgo.NewHandle(&logger{o.Log, c.failed})) // given back by gocadftRelease
	}
	desc := C.cadft_context_desc{struct_size: C.sizeof_cadft_context_desc, n_threads: threads,
		allocator: (*C.cadft_allocator)(o.Allocator), parallel: (*C.cadft_parallel)(o.Parallel)}
	var out *C.cadft_context
	err = try(func(e *C.cadft_error) C.int32_t {
		return C.gocadft_context_create(&desc, backend, backendOptions, C.int32_t(o.LogLevel), log, &out, e)
	})
	if err != nil {
		return nil, err
	}
	c.open("context", unsafe.Pointer(out), func(p unsafe.Pointer) { C.cadft_context_destroy((*C.cadft_context)(p)) })
	runtime.SetFinalizer(c, func(c *Context) { c.Close() })
	return c, nil
}

// Close gives the context up; what was made from it lives on. Its error is
// the first panic of Options.Log, if there was one.
func (c *Context) Close() error {
	c.handle.Close()
	if c.failed != nil {
		return c.failed.take()
	}
	return nil
}

// share makes a call that need not be alone.
func (c *Context) share(f func(p *C.cadft_context, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	p, err := c.hold(forEver, 0)
	if err != nil {
		return err
	}
	defer c.release(forEver)
	return with(tensors, func(e *C.cadft_error) C.int32_t { return f((*C.cadft_context)(p), e) })
}

// create makes a noun of this context.
func (c *Context) create(f func(p *C.cadft_context, e *C.cadft_error) (unsafe.Pointer, C.int32_t)) (unsafe.Pointer, error) {
	var out unsafe.Pointer
	err := c.share(func(p *C.cadft_context, e *C.cadft_error) (status C.int32_t) {
		out, status = f(p, e)
		return status
	})
	return out, err
}

func (c *Context) number(key C.int32_t) (int64, error) {
	var out C.int64_t
	err := c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
		return C.cadft_context_get_i64(p, key, &out, e)
	})
	return int64(out), err
}

func (c *Context) text(key C.int32_t) (string, error) {
	p, err := c.hold(forEver, 0)
	if err != nil {
		return "", err
	}
	defer c.release(forEver)
	return textOf(func(out []C.char, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_context_get_str((*C.cadft_context)(p), key, (*C.char)(pointer(out)), C.size_t(len(out)), needed, e)
	})
}

// textOf reads a text, which comes with its end.
func textOf(f func(out []C.char, needed *C.size_t, e *C.cadft_error) C.int32_t) (string, error) {
	out, err := sized(256, f)
	if err != nil {
		return "", err
	}
	return C.GoString(&out[0]), nil
}

// Workers is the number of threads that work.
func (c *Context) Workers() (int, error) {
	n, err := c.number(C.CADFT_CONTEXT_WORKERS)
	return int(n), err
}

// Bytes that the library has allocated now.
func (c *Context) Bytes() (int64, error) { return c.number(C.CADFT_CONTEXT_BYTES) }

// PeakBytes is the most that it ever had.
func (c *Context) PeakBytes() (int64, error) { return c.number(C.CADFT_CONTEXT_PEAK_BYTES) }

// Backend is its name, "cpu".
func (c *Context) Backend() (string, error) { return c.text(C.CADFT_CONTEXT_BACKEND) }

// Device is what the backend runs on, "avx2".
func (c *Context) Device() (string, error) { return c.text(C.CADFT_CONTEXT_DEVICE) }

// Read copies a tensor of the backend's memory into a dense host tensor of
// the same type and length.
func (c *Context) Read(from, to Tensor) error {
	if err := c.checkCopy(from, to); err != nil {
		return err
	}
	return c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
		return C.gocadft_context_read(p, &from.view, from.at(), to.at(), C.size_t(to.Len()*to.DType().size()), e)
	}, &from, &to)
}

// Write is the way back: a dense host tensor into one of the backend's memory.
func (c *Context) Write(to, from Tensor) error {
	if err := c.checkCopy(to, from); err != nil {
		return err
	}
	return c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
		return C.gocadft_context_write(p, &to.view, to.at(), from.at(), C.size_t(from.Len()*from.DType().size()), e)
	}, &to, &from)
}

// The library gets no more than address and size of the host's side.
func (c *Context) checkCopy(theirs, host Tensor) error {
	switch {
	case !host.IsPresent() || !theirs.IsPresent():
		return fail(ErrNull, "the zero Tensor has no memory to copy")
	case host.view.device_type != C.CADFT_DEVICE_CPU:
		return fail(ErrDevice, "the host's tensor is on device %d", int(host.view.device_type))
	case !host.isDense():
		return fail(ErrShape, "the host's tensor has gaps")
	case host.DType() != theirs.DType():
		return fail(ErrDType, "a tensor of %v is no copy of %v", host.DType(), theirs.DType())
	}
	return nil
}
