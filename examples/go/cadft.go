// SPDX-License-Identifier: Apache-2.0

// Package cadft binds libcadft: the loss of Compatibility-Aware Dynamic
// Fine-Tuning, and the transformer, optimizer, rewriting and checkpoints
// around it. It uses the installed headers and library alone.
//
// # Handles
//
// Context, Loss, Model, Optimizer, Rewriter and Buffer are handles of the
// library. Close gives one up; it never fails twice, may be called in any
// order and at any time, and a handle that is inside a call goes when that
// call has ended. Every other method of a closed handle returns ErrClosed. A
// handle that is dropped without Close is closed by a finalizer, some time
// later: memory of models is large, so call Close.
//
// # Goroutines
//
// A Context may be used by several goroutines at once. Any other handle is
// used by one at a time; a second one, or a callback of the same handle, gets
// ErrBusy. That is what the library does, and the binding passes it on
// instead of waiting: two goroutines in the phases of one step mix their
// micro-batches whoever waits for whom, and a callback would wait for
// itself. A host that wants to take turns has a mutex around the whole turn.
// The binding checks it before the library does, so that its own part of a
// call is alone too, and Close needs no waiting. Different handles, also of
// one Context, are independent; but a model does not give up memory, of logits
// say, that a call of another handle uses: that is ErrBusy, too.
//
// # Memory
//
// Tensors are views of slices; nothing is copied, in or out. See View and
// Slice.
package cadft

/*
#cgo pkg-config: cadft
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
)

// Version of the library that is loaded, "0.1.0".
func Version() string {
	v := uint32(C.cadft_version())
	return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000)
}

// A Status is the library's code for a kind of error. It is itself an error,
// for errors.Is(err, cadft.ErrLabel).
type Status int32

// The kinds of errors. Codes that are not here are errors as well.
const (
	ErrNull        Status = C.CADFT_E_NULL        // something required is missing
	ErrArg         Status = C.CADFT_E_ARG         // a value is outside what is allowed
	ErrShape       Status = C.CADFT_E_SHAPE       // shape, stride or length does not fit
	ErrDType       Status = C.CADFT_E_DTYPE       // data type not accepted here
	ErrAlign       Status = C.CADFT_E_ALIGN       // address not aligned to its element
	ErrAlias       Status = C.CADFT_E_ALIAS       // buffers overlap in a way not allowed
	ErrDevice      Status = C.CADFT_E_DEVICE      // memory the backend cannot reach
	ErrTooNew      Status = C.CADFT_E_TOO_NEW     // asks for what the library does not know
	ErrKey         Status = C.CADFT_E_KEY         // unknown knob, or wrong type for it
	ErrSpace       Status = C.CADFT_E_SPACE       // the slice is too short
	ErrPhase       Status = C.CADFT_E_PHASE       // call not allowed in this phase
	ErrBusy        Status = C.CADFT_E_BUSY        // handle is inside another call
	ErrUnsupported Status = C.CADFT_E_UNSUPPORTED // combination refused
	ErrLabel       Status = C.CADFT_E_LABEL       // label outside the vocabulary
	ErrSample      Status = C.CADFT_E_SAMPLE      // sample id outside the batch or data set
	ErrNonfinite   Status = C.CADFT_E_NONFINITE   // NaN or infinity where none may be
	ErrState       Status = C.CADFT_E_STATE       // saved state damaged or not ours
	ErrFormat      Status = C.CADFT_E_FORMAT      // a file's content is damaged or refused
	ErrNoMem       Status = C.CADFT_E_NOMEM       // no memory
	ErrThreads     Status = C.CADFT_E_THREADS     // threads failed
	ErrBackend     Status = C.CADFT_E_BACKEND     // the backend failed or was refused
	ErrCallback    Status = C.CADFT_E_CALLBACK    // a callback failed
	ErrIO          Status = C.CADFT_E_IO          // a file could not be read or written
)

// Error is the name of the status, "CADFT_E_LABEL".
func (s Status) Error() string {
	return C.GoString(C.cadft_status_string(C.int32_t(s)))
}

// An Error is what a call of the library returns.
type Error struct {
	Status  Status
	Message string // names the argument, its value and what was expected
	cause   error  // of a callback
}

func (e *Error) Error() string {
	text := "cadft: " + e.Message
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Is says whether the error is of this Status.
func (e *Error) Is(target error) bool {
	status, ok := target.(Status)
	return ok && status == e.Status
}

// Unwrap returns what the callback returned, if that was it: the callback's
// error, or a *PanicError.
func (e *Error) Unwrap() error { return e.cause }

// ErrClosed is the error of a method of a handle that is closed, or was never
// opened, and of a tensor of its memory.
var ErrClosed = errors.New("cadft: the handle is closed")

func fail(status Status, format string, args ...any) error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// try makes one call of the library.
func try(f func(e *C.cadft_error) C.int32_t) error {
	e := C.cadft_error{struct_size: C.sizeof_cadft_error}
	if status := f(&e); status != C.CADFT_OK {
		return &Error{Status: Status(status), Message: C.GoString(&e.message[0])}
	}
	return nil
}

// text is s for C, for the time of a call.
func text(name, s string) (*C.char, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, fail(ErrArg, "%s %q has a zero byte", name, s)
	}
	return (*C.char)(pointer(append([]byte(s), 0))), nil
}

// textOrNull is nil for the empty string.
func textOrNull(name, s string) (*C.char, error) {
	if s == "" {
		return nil, nil
	}
	return text(name, s)
}

// sized makes the call that copies elements out, again when there are more
// than at first. With no memory at all C only says how many there are.
func sized[T any](first int, f func(out []T, needed *C.size_t, e *C.cadft_error) C.int32_t) ([]T, error) {
	for out := make([]T, first); ; {
		var needed C.size_t
		err := try(func(e *C.cadft_error) C.int32_t { return f(out, &needed, e) })
		switch {
		case int(needed) > len(out) && (err == nil || errors.Is(err, ErrSpace)):
			out = make([]T, needed)
		case err != nil:
			return nil, err
		default:
			return out[:needed], nil
		}
	}
}

// small is n for an int32 of C.
func small(name string, n int) (C.int32_t, error) {
	if int(int32(n)) != n {
		return 0, fail(ErrArg, "%s is %d, more than an int32 holds", name, n)
	}
	return C.int32_t(n), nil
}

func flag(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}
