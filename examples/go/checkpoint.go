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
	Host      []byte // the host's own: data order, random state
}

// c is the checkpoint for C, inside of its parts; leave them with out, also
// after an error.
func (c *Checkpoint) c() (point C.cadft_checkpoint, out func(), err error) {
	var inside []*handle
	out = func() {
		for _, h := range inside {
			h.leave()
		}
	}
	enter := func(h *handle) (p unsafe.Pointer) {
		if err == nil {
			if p, err = h.enter(); err == nil {
				inside = append(inside, h)
			}
		}
		return p
	}
	point = C.cadft_checkpoint{struct_size: C.sizeof_cadft_checkpoint, step: C.int64_t(c.Step)}
	if c.Model != nil {
		point.model = (*C.cadft_model)(enter(&c.Model.handle))
	}
	if c.Optimizer != nil {
		point.optimizer = (*C.cadft_optimizer)(enter(&c.Optimizer.handle))
	}
	if c.Loss != nil {
		point.loss = (*C.cadft_loss)(enter(&c.Loss.handle))
	}
	if c.Rewriter != nil {
		point.rewrite = (*C.cadft_rewrite)(enter(&c.Rewriter.handle))
	}
	return point, out, err
}

// SaveCheckpoint saves the parts as FOLDER/step-00000042, as a whole or not at
// all. Save between optimizer steps.
func (c *Context) SaveCheckpoint(point Checkpoint) error {
	folder, err := text("folder", point.Folder)
	if err != nil {
		return err
	}
	keep, err := small("keep", point.Keep)
	if err != nil {
		return err
	}
	inside, out, err := point.c()
	defer out()
	if err != nil {
		return err
	}
	inside.keep = keep
	inside.host_bytes = C.size_t(len(point.Host))
	return c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
		return C.gocadft_checkpoint_save(p, &inside, folder, (*C.char)(pointer(point.Host)), e)
	})
}

// FindCheckpoint is the highest step that has a checkpoint, below before (-1:
// any); -1 if there is none. A damaged one is found too: LoadCheckpoint refuses
// it (ErrFormat), and who wants the one before it asks with its step.
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
// if there are any. It may be called again for other parts: the model first,
// then the optimizer that was made for it. Keep and Host are not read.
func (c *Context) LoadCheckpoint(point Checkpoint) (host []byte, err error) {
	folder, err := text("folder", point.Folder)
	if err != nil {
		return nil, err
	}
	inside, out, err := point.c()
	defer out()
	if err != nil {
		return nil, err
	}
	var n C.size_t
	load := func(point *C.cadft_checkpoint) error {
		return c.share(func(p *C.cadft_context, e *C.cadft_error) C.int32_t {
			return C.gocadft_checkpoint_load(p, point, folder, (*C.char)(pointer(host)), C.size_t(len(host)), &n, e)
		})
	}
	// Without parts at first: how long the host's bytes are.
	if err = load(&C.cadft_checkpoint{struct_size: C.sizeof_cadft_checkpoint, step: inside.step}); err != nil {
		return nil, err
	}
	host = make([]byte, n)
	if err = load(&inside); err != nil {
		return nil, err
	}
	if int(n) > len(host) { // none at first: no room, and C passed them over
		return nil, fail(ErrState, "checkpoint %d of %s was replaced while it was loaded", point.Step, point.Folder)
	}
	return host[:n], nil
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
