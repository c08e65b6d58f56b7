// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"runtime/debug"
	"sync"
	"unsafe"
)

// A PanicError is a panic in a callback, which must not unwind through C. The
// call that the callback served returns an Error around it. (What cannot be
// caught is runtime.Goexit: do not call testing.T.FailNow in a callback.)
type PanicError struct {
	Value any
	Stack []byte
}

func (p *PanicError) Error() string { return fmt.Sprintf("panic in a callback: %v", p.Value) }

// A failure is what a callback left. It is apart from the handle, which must
// not be reachable from a callback's registration: it would never be
// collected.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) take() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.err
	f.err = nil
	return err
}

func (f *failure) keep(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// guard runs a callback: false if it failed.
func (f *failure) guard(callback func() error) (ok bool) {
	returned := false
	defer func() {
		if value := recover(); !returned { // the value of panic(nil) is nil
			f.keep(&PanicError{value, debug.Stack()})
		}
	}()
	err := callback()
	returned = true
	if err != nil {
		f.keep(err)
	}
	return err == nil
}

type coefficient struct {
	fn     func(l, p, entropy, k []float64) error
	failed *failure
}

//export gocadftCoefficient
func gocadftCoefficient(user C.uintptr_t, rows C.int64_t, l, p, entropy, k *C.double) C.int32_t {
	c := cgo.Handle(user).Value().(*coefficient)
	of := func(column *C.double) []float64 {
		return unsafe.Slice((*float64)(column), int(rows))
	}
	if !c.failed.guard(func() error { return c.fn(of(l), of(p), of(entropy), of(k)) }) {
		return -1
	}
	return 0
}

type token struct {
	fn     func(Token) (stop bool, err error)
	failed *failure
}

//export gocadftToken
func gocadftToken(user C.uintptr_t, prompt, position C.int64_t, id C.int32_t, logprob C.double) C.int32_t {
	t, stop := cgo.Handle(user).Value().(*token), false
	ok := t.failed.guard(func() (err error) {
		stop, err = t.fn(Token{int(prompt), int(position), int32(id), float64(logprob)})
		return err
	})
	switch {
	case !ok:
		return -1
	case stop:
		return 1
	}
	return 0
}

type logger struct {
	fn     func(level LogLevel, text string)
	failed *failure
}

//export gocadftLog
func gocadftLog(user C.uintptr_t, level C.int32_t, text *C.char, length C.size_t) {
	l := cgo.Handle(user).Value().(*logger)
	l.failed.guard(func() error {
		l.fn(LogLevel(level), C.GoStringN(text, C.int(length)))
		return nil
	})
}

//export gocadftRelease
func gocadftRelease(user C.uintptr_t) { cgo.Handle(user).Delete() }
