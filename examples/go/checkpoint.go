// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
*/
import "C"

import "unsafe"

// A Checkpoint is everything that a run goes on from. Any part may be nil.
type Checkpoint struct {
	Folder    string // holds the checkpoints, a folder each
	Step      int64  // steps done, names the checkpoint
	Keep      int    // how many stay when this one is saved; 0: all
	Model     *Model
	Optimizer *Optimizer
	Loss      *Loss
	Rewriter  *Rewriter
	Host      []byte // the host's own: data order, random state; nil: none
}

// parts enters the handles of a checkpoint; leave all of them with out.
func (c *Checkpoint) parts() (p [4]unsafe.Pointer, out func(), err error) {
	var inside []*handle
	out = func() {
		for _, h := range inside {
			h.leave()
		}
	}
	var all [4]*handle
	if c.Model != nil {
		all[0] = &c.Model.handle
	}
	if c.Optimizer != nil {
		all[1] = &c.Optimizer.handle
	}
	if c.Loss != nil {
		all[2] = &c.Loss.handle
	}
	if c.Rewriter != nil {
		all[3] = &c.Rewriter.handle
	}
	for i, h := range all {
		if h == nil {
			continue
		}
		if p[i], err = h.enter(); err != nil {
			out()
			return p, nil, err
		}
		inside = append(inside, h)
	}
	return p, out, nil
}

// SaveCheckpoint saves the parts as FOLDER/step-00000042, as a whole or not at
// all. Save between optimizer steps.
func (c *Context) SaveCheckpoint(point Checkpoint) error {
	folder, err := text("folder", point.Folder)
	if err != nil {
		return err
	}
	parts, out, err := point.parts()
	if err != nil {
		return err
	}
	defer out()
	host := point.Host
	if host != nil {
		host = some(host) // an empty part has an address, too
	}
	return c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
		return C.gocadft_checkpoint_save(p, folder, C.int64_t(point.Step), C.int32_t(point.Keep),
			(*C.cadft_model)(parts[0]), (*C.cadft_optimizer)(parts[1]), (*C.cadft_loss)(parts[2]),
			(*C.cadft_rewrite)(parts[3]), (*C.char)(pointer(host)), C.size_t(len(point.Host)), e)
	})
}

// FindCheckpoint is the highest step that has a checkpoint, below before (-1:
// any); -1 if there is none. Of a damaged one it is the step, with an Error of
// ErrFormat.
func (c *Context) FindCheckpoint(folder string, before int64) (int64, error) {
	s, err := text("folder", folder)
	if err != nil {
		return -1, err
	}
	step := C.int64_t(-1)
	err = c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
		return C.cadft_checkpoint_find(p, s, C.int64_t(before), &step, e)
	})
	return int64(step), err
}

// LoadCheckpoint loads the parts that are given and returns the host's bytes,
// nil without any. It may be called again for other parts: the model first,
// then the optimizer that was made for it. Keep and Host are not read.
func (c *Context) LoadCheckpoint(point Checkpoint) (host []byte, err error) {
	folder, err := text("folder", point.Folder)
	if err != nil {
		return nil, err
	}
	p, err := c.hold()
	if err != nil {
		return nil, err
	}
	defer c.release()
	parts, out, err := point.parts()
	if err != nil {
		return nil, err
	}
	defer out()
	host, err = sized(4096, func(out []byte, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.gocadft_checkpoint_load((*C.cadft_context)(p), folder, C.int64_t(point.Step),
			(*C.cadft_model)(parts[0]), (*C.cadft_optimizer)(parts[1]), (*C.cadft_loss)(parts[2]),
			(*C.cadft_rewrite)(parts[3]), (*C.char)(pointer(out)), C.size_t(len(out)), needed, e)
	})
	if len(host) == 0 {
		host = nil
	}
	return host, err
}

// CheckpointPath is the folder of a step's checkpoint, there or not.
func CheckpointPath(folder string, step int64) (string, error) {
	s, err := text("folder", folder)
	if err != nil {
		return "", err
	}
	return textOf(func(out []C.char, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_checkpoint_path(s, C.int64_t(step), (*C.char)(pointer(out)), C.size_t(len(out)), needed, e)
	})
}
