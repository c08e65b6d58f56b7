// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim_knobs.h"
*/
import "C"

import (
	"math"
	"reflect"
	"unsafe"
)

// knobs is a handle with settings by name. The headers of the library list
// them: the constant's name in lower case, "beta" for CADFT_LOSS_BETA.
type knobs struct {
	handle
	noun C.int32_t
}

// Knobs are the names of all there are; also of a closed handle.
func (k *knobs) Knobs() (names []string) {
	for i := C.int32_t(0); ; i++ {
		var name *C.char
		var key C.int32_t
		if try(func(e *C.cadft_error) C.int32_t { return C.gocadft_key_at(k.noun, i, &name, &key, e) }) != nil {
			return names // past the last
		}
		names = append(names, C.GoString(name))
	}
}

// Bounds of a knob.
type Bounds struct {
	IsFloat                    bool // else a whole number
	Smallest, Largest, Default float64
}

func (k *knobs) key(name string) (C.int32_t, error) {
	var key C.int32_t
	s, err := text("name", name)
	if err != nil {
		return 0, err
	}
	err = try(func(e *C.cadft_error) C.int32_t { return C.gocadft_key(k.noun, s, &key, e) })
	return key, err
}

// Bounds of a knob; also of a closed handle.
func (k *knobs) Bounds(name string) (Bounds, error) {
	key, err := k.key(name)
	if err != nil {
		return Bounds{}, err
	}
	var kind C.int32_t
	var smallest, largest, standard C.double
	err = try(func(e *C.cadft_error) C.int32_t {
		return C.gocadft_bounds(k.noun, key, &kind, &smallest, &largest, &standard, e)
	})
	return Bounds{kind == 1, float64(smallest), float64(largest), float64(standard)}, err
}

// Set a knob: Set("beta", 1.5), Set("reduction", "sum"), Set("weighting",
// false). The value is a number, a bool, or a text (a name or a number).
// Whole numbers are good for every knob.
func (k *knobs) Set(name string, value any) error {
	bounds, err := k.Bounds(name)
	if err != nil {
		return err
	}
	v := reflect.ValueOf(value)
	switch {
	case v.Kind() == reflect.String:
		return k.setText(name, v.String())
	case v.Kind() == reflect.Bool:
		return k.setInt(name, int64(flag(v.Bool())))
	case v.CanInt() && bounds.IsFloat:
		return k.setFloat(name, float64(v.Int()))
	case v.CanInt():
		return k.setInt(name, v.Int())
	case v.CanUint() && v.Uint() > math.MaxInt64:
		return fail(ErrArg, "%s is %d, more than an int64 holds", name, v.Uint())
	case v.CanUint():
		return k.Set(name, int64(v.Uint()))
	case v.CanFloat():
		return k.setFloat(name, v.Float())
	}
	return fail(ErrArg, "%s is a %T, expected a number, a bool or a string", name, value)
}

// change makes the call that sets a knob.
func (k *knobs) change(name string, set func(p unsafe.Pointer, key C.int32_t, e *C.cadft_error) C.int32_t) error {
	key, err := k.key(name)
	if err != nil {
		return err
	}
	// A model's knob may change the plan of its activations.
	return k.callAging(activations, func(p unsafe.Pointer, e *C.cadft_error) C.int32_t {
		status := set(p, key, e)
		if status != C.CADFT_OK {
			k.rejuvenate(activations)
		}
		return status
	})
}

func (k *knobs) setText(name, value string) error {
	s, err := text("value", value)
	if err != nil {
		return err
	}
	return k.change(name, func(p unsafe.Pointer, key C.int32_t, e *C.cadft_error) C.int32_t {
		return C.gocadft_set_str(k.noun, p, key, s, e)
	})
}

func (k *knobs) setInt(name string, value int64) error {
	return k.change(name, func(p unsafe.Pointer, key C.int32_t, e *C.cadft_error) C.int32_t {
		return C.gocadft_set_i64(k.noun, p, key, C.int64_t(value), e)
	})
}

func (k *knobs) setFloat(name string, value float64) error {
	return k.change(name, func(p unsafe.Pointer, key C.int32_t, e *C.cadft_error) C.int32_t {
		return C.gocadft_set_f64(k.noun, p, key, C.double(value), e)
	})
}

// Get reads a knob as text, which Set takes back.
func (k *knobs) Get(name string) (string, error) {
	key, err := k.key(name)
	if err != nil {
		return "", err
	}
	p, err := k.enter()
	if err != nil {
		return "", err
	}
	defer k.leave()
	return textOf(func(out []C.char, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.gocadft_get_str(k.noun, p, key, (*C.char)(pointer(out)), C.size_t(len(out)), needed, e)
	})
}

// Int reads a whole-number knob; of one with names, the name's number.
func (k *knobs) Int(name string) (int64, error) {
	key, err := k.key(name)
	if err != nil {
		return 0, err
	}
	return k.fact(key)
}

// Float reads a floating-point knob.
func (k *knobs) Float(name string) (float64, error) {
	key, err := k.key(name)
	if err != nil {
		return 0, err
	}
	var out C.double
	err = k.call(func(p unsafe.Pointer, e *C.cadft_error) C.int32_t {
		return C.gocadft_get_f64(k.noun, p, key, &out, e)
	})
	return float64(out), err
}

func (k *knobs) fact(key C.int32_t) (int64, error) {
	var out C.int64_t
	err := k.call(func(p unsafe.Pointer, e *C.cadft_error) C.int32_t {
		return C.gocadft_get_i64(k.noun, p, key, &out, e)
	})
	return int64(out), err
}
