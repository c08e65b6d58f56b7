// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"example.org/cadft"
)

// A goldenCase is one of the text that GOLDEN_TEXT names (doc/bindings.md).
type goldenCase struct {
	name    string
	options [][2]string
	steps   []goldenStep
}

type goldenStep struct {
	samples int
	micros  []cadft.Batch
	want    []string // the lines of its results
}

func number(word string) int { return must(strconv.Atoi(word)) }

// elements over a copy of these bytes.
func elements[T cadft.Element](bytes []byte, shape []int) cadft.Tensor {
	var one T
	data := make([]T, len(bytes)/int(unsafe.Sizeof(one)))
	if len(data) > 0 {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(bytes)), bytes)
	}
	return cadft.View(data, shape...)
}

// array reads DTYPE NDIM SHAPE... HEX.
func array(words []string) cadft.Tensor {
	ndim := number(words[1])
	shape := make([]int, ndim)
	for d := range shape {
		shape[d] = number(words[2+d])
	}
	bytes := must(hex.DecodeString(words[2+ndim]))
	switch words[0] {
	case "f32":
		return elements[float32](bytes, shape)
	case "f64":
		return elements[float64](bytes, shape)
	case "f16":
		return elements[cadft.F16](bytes, shape)
	case "bf16":
		return elements[cadft.BF16](bytes, shape)
	case "i32":
		return elements[int32](bytes, shape)
	case "i64":
		return elements[int64](bytes, shape)
	}
	panic("data type " + words[0])
}

// line adds one to the cases.
func line(cases []goldenCase, text string) []goldenCase {
	words := strings.Split(text, " ")
	if words[0] == "case" {
		return append(cases, goldenCase{name: words[1]})
	}
	c := &cases[len(cases)-1]
	switch words[0] {
	case "option":
		c.options = append(c.options, [2]string{words[1], words[2]})
		return cases
	case "step":
		c.steps = append(c.steps, goldenStep{samples: number(words[1])})
		return cases
	}
	s := &c.steps[len(c.steps)-1]
	if words[0] == "micro" {
		s.micros = append(s.micros, cadft.Batch{VocabValid: int64(number(words[1]))})
		return cases
	}
	last := len(s.micros) - 1
	switch {
	case words[0] == "logits":
		s.micros[last].Logits = array(words[1:])
	case words[0] == "labels":
		s.micros[last].Labels = array(words[1:])
	case words[0] == "sample_ids":
		s.micros[last].SampleIDs = array(words[1:])
	case words[0] == "k" && len(words) > 2: // else a result
		s.micros[last].K = array(words[1:])
	default:
		s.want = append(s.want, text)
	}
	return cases
}

func goldenCases(t testing.TB) (cases []goldenCase) {
	path := os.Getenv("GOLDEN_TEXT")
	if path == "" {
		t.Skip("GOLDEN_TEXT is not set")
	}
	file := must(os.Open(path))
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		cases = line(cases, lines.Text())
	}
	ok(lines.Err())
	return cases
}

// A record is the lines of what the library made of a step.
type record []string

func add[T float32 | float64](r *record, name string, values ...T) {
	var bytes []byte
	if len(values) > 0 {
		bytes = unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
	}
	*r = append(*r, name+" "+hex.EncodeToString(bytes))
}

func (r *record) rows(loss *cadft.Loss, micro int64) {
	add(r, "l", must(loss.Rows(micro, cadft.RowNLL))...)
	add(r, "k", must(loss.Rows(micro, cadft.RowK))...)
	add(r, "scale", must(loss.Rows(micro, cadft.RowScale))...)
}

func (r *record) samples(loss *cadft.Loss) {
	add(r, "c", must(loss.Samples(cadft.SampleC))...)
	add(r, "w", must(loss.Samples(cadft.SampleW))...)
}

func (r *record) status(err error) {
	var e *cadft.Error
	switch {
	case err == nil:
		*r = append(*r, "status 0 ")
	case errors.As(err, &e):
		*r = append(*r, fmt.Sprintf("status %d %s", e.Status, e.Message))
	default:
		panic(err)
	}
}

// gradOf is float32 memory for a gradient, zero.
func gradOf(b cadft.Batch) ([]float32, cadft.Tensor) {
	grad := make([]float32, b.Logits.Len())
	return grad, cadft.View(grad, b.Logits.Shape()...)
}

// inPhases replays a step; each micro-batch is weighed by itself with scopes
// other than exact.
func (s goldenStep) inPhases(loss *cadft.Loss) (r record, err error) {
	step, err := loss.Begin(s.samples)
	if err != nil {
		return r, err
	}
	defer step.Cancel()
	grad := func(i int64) error {
		memory, tensor := gradOf(s.micros[i])
		if err := step.Grad(i, s.micros[i], tensor); err != nil {
			return err
		}
		add(&r, "grad", memory...)
		r.rows(loss, i)
		return nil
	}
	exact := must(loss.Get("scope")) == "exact"
	for _, micro := range s.micros {
		i, err := step.Observe(micro, cadft.Tensor{})
		if err == nil && !exact {
			if err = step.Weigh(); err == nil {
				err = grad(i)
			}
		}
		if err != nil {
			return r, err
		}
	}
	if exact {
		if err := step.Weigh(); err != nil {
			return r, err
		}
		for i := range s.micros {
			if err := grad(int64(i)); err != nil {
				return r, err
			}
		}
	}
	r.samples(loss)
	report, err := step.End()
	if err == nil {
		add(&r, "loss", report.Loss)
		add(&r, "mean_w", report.MeanW)
	}
	return r, err
}

// atOnce replays a step of one micro-batch.
func (s goldenStep) atOnce(loss *cadft.Loss) (r record, err error) {
	memory, tensor := gradOf(s.micros[0])
	report, err := loss.Compute(s.micros[0], s.samples, tensor)
	if err != nil {
		return r, err
	}
	add(&r, "grad", memory...)
	r.rows(loss, 0)
	r.samples(loss)
	add(&r, "loss", report.Loss)
	add(&r, "mean_w", report.MeanW)
	return r, nil
}

func (c goldenCase) replay(t *testing.T, ctx *cadft.Context, how func(goldenStep, *cadft.Loss) (record, error)) {
	loss := must(cadft.NewLoss(ctx))
	defer loss.Close()
	for _, option := range c.options {
		ok(loss.Set(option[0], option[1]))
	}
	for i, step := range c.steps {
		got, err := how(step, loss)
		got.status(err)
		if a, b := strings.Join(got, "\n"), strings.Join(step.want, "\n"); a != b {
			t.Errorf("%s, step %d:\n%s\nexpected\n%s", c.name, i, a, b)
		}
	}
}

func TestGoldenCasesInPhases(t *testing.T) {
	ctx, count := newContext(t, cadft.Options{})
	cases, failures := goldenCases(t), 0
	for _, c := range cases {
		c.replay(t, ctx, goldenStep.inPhases)
		for _, step := range c.steps {
			if !strings.HasPrefix(step.want[len(step.want)-1], "status 0") {
				failures++
			}
		}
	}
	if len(cases) < 400 || failures < 40 {
		t.Errorf("only %d cases, %d with errors", len(cases), failures)
	}
	t.Logf("%d cases, %d errors", len(cases), failures)
	ctx.Close()
	gone(t, count)
}

func TestGoldenCasesAtOnce(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	n := 0
	for _, c := range goldenCases(t) {
		single := true
		for _, option := range c.options {
			// In phases the others do not know the counts in time.
			single = single && (option[0] != "scope" || option[1] == "exact")
		}
		for _, step := range c.steps {
			last := step.want[len(step.want)-1]
			// An error in the middle leaves results in phases, and none here.
			single = single && len(step.micros) == 1 && (strings.HasPrefix(last, "status 0") || len(step.want) == 1)
		}
		if single {
			c.replay(t, ctx, goldenStep.atOnce)
			n++
		}
	}
	if n < 200 {
		t.Errorf("only %d cases", n)
	}
	t.Logf("%d cases", n)
}
