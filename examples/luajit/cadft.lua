-- SPDX-License-Identifier: Apache-2.0
-- cadft for LuaJIT: the C interface through ffi. README.md says how to use it; the comments of
-- the C headers hold for the methods here, which have their names.
local ffi = require("ffi")
local core = require("cadft_core")
jit.off(true, true) -- see cadft_core.lua

local C, new, fail = core.C, core.new, core.fail
local call, array, number = core.call_on, core.array, core.number
local view, count, fields, class = core.view, core.count, core.fields, core.class
local memory, only = core.memory, core.only

-- C has the functions and constants of the headers, new("cadft_...") makes their structs,
-- call(fn, ...) calls a function that takes no handle; Error is the metatable of what is thrown.
local cadft = {C = C, new = new, call = core.call, Error = core.Error, tensor = core.tensor,
    zeros = core.zeros}

-- major * 1000000 + minor * 1000 + patch
function cadft.version()
    return C.cadft_version()
end

local Context, Loss, Model = class("context"), class("loss"), class("model")
local Optimizer, Rewrite = class("optimizer"), class("rewrite")
Context.set, Context.get, Context.knobs, Context.fact = nil, nil, nil, nil

local function create(context, class_, knobs, ...)
    local out = ffi.new("cadft_" .. class_.noun .. " *[1]")
    local arguments, n = {...}, select("#", ...)
    arguments[n + 1] = out
    call(context, C["cadft_" .. class_.noun .. "_create"], unpack(arguments, 1, n + 1))
    local self = core.open(class_, out[0], C["cadft_" .. class_.noun .. "_destroy"], context.shared)
    if knobs then
        self:set(knobs)
    end
    return self
end

-- ----------------------------------------------------------------------------------- context

-- Options, all optional: threads, log = function(level, text), log_level, backend,
-- backend_options; allocator, a cadft_allocator, whose callbacks are the caller's to keep.
function cadft.context(options)
    options = only("threads log log_level backend backend_options allocator", options or {})
    local desc, out = new("cadft_context_desc"), ffi.new("cadft_context *[1]")
    local shared, log = {refs = 1}, new("cadft_log")
    desc.n_threads = options.threads or 0
    desc.backend, desc.backend_options = options.backend, options.backend_options
    desc.allocator = options.allocator
    if options.log then
        local write = options.log
        log.max_level = options.log_level or C.CADFT_LOG_WARNING
        shared.callback = ffi.cast("void (*)(void *, int32_t, const char *, size_t)",
            function(_, level, line, length)
                local good, thrown = pcall(write, level, ffi.string(line, length))
                if not good then
                    io.stderr:write("cadft: the log failed: ", tostring(thrown), "\n")
                end
            end)
        log.write = shared.callback
        desc.log = log
    end
    local err = new("cadft_error")
    local status = C.cadft_context_create(desc, out, err)
    if status ~= C.CADFT_OK then
        core.release(shared)
        fail(status, err)
    end
    shared.refs = 0
    return core.open(Context, out[0], C.cadft_context_destroy, shared)
end

function Context:loss(knobs)
    return create(self, Loss, knobs)
end

-- A model without weights.
function Context:model(knobs)
    return create(self, Model, knobs)
end

function Context:optimizer(knobs)
    return create(self, Optimizer, knobs)
end

-- For a data set of n_samples.
function Context:rewrite(n_samples, knobs)
    return create(self, Rewrite, knobs, n_samples)
end

-- "workers", "bytes" or "peak_bytes".
function Context:fact(name)
    return number(self, "int64_t[1]", C.cadft_context_get_i64, C["CADFT_CONTEXT_" .. name:upper()])
end

-- "backend", "device" or "last_error".
function Context:text(name)
    return core.text(self, C.cadft_context_get_str, C["CADFT_CONTEXT_" .. name:upper()])
end

-- Copies a tensor of the backend's memory to host memory, dense and of the same type.
function Context:read(from, to)
    call(self, C.cadft_context_read, view(from), memory(to))
end

-- The way back.
function Context:write(to, from)
    call(self, C.cadft_context_write, view(to), memory(from))
end

-- -------------------------------------------------------------------------------- sample ids

-- Of padded rows [B, T]; `lengths` is nil or a tensor [B].
function cadft.sample_ids_padded(n_sequences, length, lengths, first_id)
    local ids = cadft.zeros("i32", {n_sequences * length})
    cadft.call(C.cadft_sample_ids_padded, n_sequences, length, view(lengths), first_id or 0,
        ids.data)
    return ids
end

-- Of packed rows; sequence i is rows [cu_seqlens[i], cu_seqlens[i + 1]).
function cadft.sample_ids_cu_seqlens(cu_seqlens, rows, first_id)
    local ids = cadft.zeros("i32", {rows})
    cadft.call(C.cadft_sample_ids_cu_seqlens, view(cu_seqlens), rows, first_id or 0, ids.data)
    return ids
end

-- A sample starts wherever the position does not rise. Returns ids and number of samples.
function cadft.sample_ids_position_ids(position_ids, first_id)
    local ids, n = cadft.zeros("i32", {count(position_ids.shape)}), ffi.new("int64_t[1]")
    cadft.call(C.cadft_sample_ids_position_ids, view(position_ids), first_id or 0, ids.data, n)
    return ids, tonumber(n[0])
end

-- -------------------------------------------------------------------------------------- loss

-- {logits=, labels=, sample_ids=, k=, vocab_valid=, vocab_start=, vocab_total=}: tensors, numbers
local function loss_batch(batch)
    local raw = new("cadft_loss_batch")
    only("logits labels sample_ids k vocab_valid vocab_start vocab_total", batch)
    raw.logits, raw.labels = view(batch.logits), view(batch.labels)
    raw.sample_ids, raw.k = view(batch.sample_ids), view(batch.k)
    raw.vocab_valid = batch.vocab_valid or 0
    raw.vocab_start = batch.vocab_start or 0
    raw.vocab_total = batch.vocab_total or 0
    return raw
end

local REPORT = "loss nll mean_p mean_w min_w share_below mu sigma grad_scale n_samples n_rows "
    .. "n_skipped n_infinite"

-- Returns the report. grad: a tensor, the logits themselves or nil. row_scale: nil, or a float32
-- tensor [rows] for the scales, which the gradient then lacks.
function Loss:compute(batch, n_samples, grad, row_scale)
    local report = new("cadft_loss_report")
    local raw, scale = loss_batch(batch), row_scale and memory(row_scale)
    if row_scale and batch.logits then
        local shape = batch.logits.shape
        local rows = count(shape) / math.max(1, shape[#shape])
        if row_scale.dtype ~= "f32" or count(row_scale.shape) < rows then
            error(("row_scale: expected float32 [%d]"):format(rows), 2)
        end
    end
    call(self, C.cadft_loss_compute, raw, n_samples, view(grad), scale, report)
    return fields(report, REPORT)
end

function Loss:begin(n_samples)
    call(self, C.cadft_loss_begin, n_samples)
end

-- Returns the number of the micro-batch.
function Loss:observe(batch, unit_grad)
    local micro = number(self, "int64_t[1]", C.cadft_loss_observe, loss_batch(batch),
        view(unit_grad))
    return micro -- a tail call would let go of the tensors
end

function Loss:weigh()
    call(self, C.cadft_loss_weigh)
end

function Loss:grad(micro, batch, grad)
    call(self, C.cadft_loss_grad, micro, loss_batch(batch), view(grad))
end

-- cadft_loss_end, whose name is a word of Lua; returns the report.
function Loss:finish()
    local report = new("cadft_loss_report")
    call(self, C.cadft_loss_end, report)
    return fields(report, REPORT)
end

-- What finish would return now, once all is weighed, or what it returned.
function Loss:report()
    local report = new("cadft_loss_report")
    call(self, C.cadft_loss_get_report, report)
    return fields(report, REPORT)
end

function Loss:cancel()
    C.cadft_loss_cancel(core.pointer(self))
end

-- What per-row and per-sample arrays and exchanges are called.
local function constant(prefix, name)
    return C[prefix .. name:upper()]
end

-- kind: "row_max", "samples", ...; returns an array of doubles and its length
function Loss:export(kind, shard, n_shards)
    return array(self, "double[?]", C.cadft_loss_export, constant("CADFT_EXCHANGE_", kind),
        shard or 0, n_shards or 1)
end

-- values: an array of n doubles, as exported and reduced
function Loss:import(kind, values, n)
    call(self, C.cadft_loss_import, constant("CADFT_EXCHANGE_", kind), values, n)
end

-- what: "nll", "p", "entropy", "k", "scale", "loss"; returns an array of doubles and its length
function Loss:rows(micro, what)
    return array(self, "double[?]", C.cadft_loss_get_rows, micro, constant("CADFT_ROWS_", what))
end

-- what: "c", "chat", "w", "rows"
function Loss:samples(what)
    return array(self, "double[?]", C.cadft_loss_get_samples, constant("CADFT_SAMPLES_", what))
end

-- fn(rows, l, p, entropy, k) with pointers to doubles [rows] writes k; nil removes it. An error
-- of it is the cause of that of the call. It must not refer to this loss, or that is not
-- collected.
function Loss:set_coefficient(fn)
    local hold, before, raw = self.hold, self.hold.callback, nil
    local made
    if fn then
        raw = new("cadft_coefficient")
        made = core.callback("cadft_coefficient_fn", hold, -1, function(_, rows, l, p, entropy, k)
            fn(tonumber(rows), l, p, entropy, k)
            return 0
        end)
        raw.fn = made
    end
    local good, thrown = pcall(call, self, C.cadft_loss_set_coefficient, raw)
    if not good then
        if made then
            made:free()
        end
        error(thrown, 0)
    end
    hold.callback = made
    if before then
        before:free()
    end
end

local function save_state(self)
    return core.bytes(self, C["cadft_" .. self.noun .. "_state_save"])
end

local function load_state(self, state)
    call(self, C["cadft_" .. self.noun .. "_state_load"], state, #state)
end

-- A string with the running statistics.
Loss.save_state, Loss.load_state = save_state, load_state

-- ------------------------------------------------------------------------------------- model

-- Weights of a folder; returns the model, as init does.
function Model:load(folder)
    call(self, C.cadft_model_load, folder)
    return self
end

-- Random weights; config is the text of a config.json.
function Model:init(config, seed)
    call(self, C.cadft_model_init, config, #config, seed or 0)
    return self
end

function Model:save(folder)
    call(self, C.cadft_model_save, folder)
end

-- By name, or index from 0: {name=, value=, grad=, trainable=}; grad is nil where there is none.
function Model:parameter(which)
    if type(which) == "string" then
        which = number(self, "int64_t[1]", C.cadft_model_find, which)
    end
    local name, trainable = ffi.new("const char *[1]"), ffi.new("int32_t[1]")
    local value, grad, mine = new("cadft_tensor"), new("cadft_tensor"), self.grads
    call(self, C.cadft_model_parameter, which, name, value, grad, trainable)
    return {
        name = ffi.string(name[0]),
        value = core.borrowed(value, self, function()
            return self.p
        end),
        grad = grad.data ~= nil and core.borrowed(grad, self, function()
            return self.p and self.grads == mine
        end) or nil,
        trainable = trainable[0] ~= 0,
    }
end

-- Freezes (trainable = false) or thaws; returns how many parameters match the pattern.
function Model:freeze(pattern, trainable)
    self.grads = (self.grads or 0) + 1
    return number(self, "int64_t[1]", C.cadft_model_freeze, pattern, trainable and 1 or 0)
end

local function limits(l)
    local raw = new("cadft_model_limits")
    only("rows logit_rows sequences no_grad", l)
    raw.rows, raw.logit_rows = l.rows or 0, l.logit_rows or 0
    raw.sequences, raw.no_grad = l.sequences or 0, l.no_grad and 1 or 0
    return raw
end

-- Bytes for batches of {rows=, logit_rows=, sequences=, no_grad=}.
function Model:plan(l)
    return number(self, "int64_t[1]", C.cadft_model_plan, limits(l))
end

-- Views of activations are void.
local function moved(self)
    self.arena = (self.arena or 0) + 1
    return self.arena
end

-- A knob moves them, too.
local set = Model.set
function Model:set(name, value)
    moved(self)
    return set(self, name, value)
end

function Model:reserve(l)
    moved(self)
    call(self, C.cadft_model_reserve, limits(l))
end

-- {tokens=, cu_seqlens=, lengths=, logit_rows=, no_grad=}. Returns logits, in the model's memory:
-- void after the next forward, generate, reserve, set or close.
function Model:forward(batch)
    only("tokens cu_seqlens lengths logit_rows no_grad", batch)
    local raw, logits, mine = new("cadft_model_batch"), new("cadft_tensor"), moved(self)
    raw.tokens, raw.cu_seqlens = view(batch.tokens), view(batch.cu_seqlens)
    raw.lengths, raw.logit_rows = view(batch.lengths), view(batch.logit_rows)
    raw.no_grad = batch.no_grad and 1 or 0
    call(self, C.cadft_model_forward, raw, logits)
    return core.borrowed(logits, self, function()
        return self.p and self.arena == mine
    end)
end

function Model:backward(grad_logits)
    call(self, C.cadft_model_backward, view(grad_logits))
end

function Model:zero_grad()
    call(self, C.cadft_model_zero_grad)
end

-- The struct, number of prompts, tokens for each at the most, and what the struct points to.
local function generate_desc(o)
    local raw, n = new("cadft_generate_desc"), 1
    only("tokens cu_seqlens lengths max_new_tokens temperature top_p stop_tokens seed keys step "
        .. "on_token", o)
    raw.tokens, raw.cu_seqlens, raw.lengths = view(o.tokens), view(o.cu_seqlens), view(o.lengths)
    if o.cu_seqlens then
        n = math.max(0, o.cu_seqlens.shape[1] - 1)
    elseif o.tokens and #o.tokens.shape == 2 then
        n = o.tokens.shape[1]
    end
    if o.keys and #o.keys ~= n then
        error(("%d keys, %d prompts"):format(#o.keys, n), 3)
    end
    local stop = ffi.new("int32_t[?]", #(o.stop_tokens or {}), o.stop_tokens or {})
    local keys = o.keys and ffi.new("int64_t[?]", n, o.keys)
    raw.max_new_tokens, raw.n_prompts = o.max_new_tokens or 1, n
    raw.temperature, raw.top_p = o.temperature or 0, o.top_p or 0
    raw.stop_tokens, raw.n_stop_tokens = stop, ffi.sizeof(stop) / 4
    raw.seed, raw.keys, raw.step = o.seed or 0, keys, o.step or 0
    return raw, n, math.max(0, tonumber(raw.max_new_tokens)), {stop, keys}
end

-- Prompts as in forward, and max_new_tokens, temperature, top_p, stop_tokens = {...}, seed,
-- keys = {...}, step; on_token(prompt, position, token, logprob), which returns true to end its
-- prompt. Returns a list of the new tokens for each prompt.
function Model:generate(options)
    local raw, n, most, _ = generate_desc(options)
    local tokens, lengths = ffi.new("int32_t[?]", n * most), ffi.new("int64_t[?]", n)
    local on_token = options.on_token
    local made = on_token and core.callback("cadft_token_fn", self.hold, -1,
        function(_, prompt, position, token, logprob)
            return on_token(tonumber(prompt), tonumber(position), token, logprob) and 1 or 0
        end)
    raw.on_token = made or nil
    moved(self)
    local good, thrown = pcall(call, self, C.cadft_model_generate, raw, tokens, lengths)
    if made then
        made:free()
    end
    if not good then
        error(thrown, 0)
    end
    local out = {}
    for i = 1, n do
        out[i] = {}
        for j = 1, tonumber(lengths[i - 1]) do
            out[i][j] = tokens[(i - 1) * most + j - 1]
        end
    end
    return out
end

-- --------------------------------------------------------------------------------- optimizer

-- A parameter of the caller's and its gradient: tensors, which the optimizer keeps.
function Optimizer:add(name, value, grad)
    local v, g = view(value), view(grad)
    if (v and value.owner) or (g and grad.owner) then
        error("memory of the library; a model is added by add_model", 2)
    end
    call(self, C.cadft_optimizer_add, name, v, g)
    table.insert(self.hold, {value, grad})
end

-- Returns how many parameters were added.
function Optimizer:add_model(model)
    return number(self, "int64_t[1]", C.cadft_optimizer_add_model, core.pointer(model))
end

-- Returns how many parameters match the pattern.
function Optimizer:group(pattern, lr_scale, decay_scale)
    return number(self, "int64_t[1]", C.cadft_optimizer_group, pattern, lr_scale, decay_scale)
end

-- The sum of squares of all gradients.
function Optimizer:norm()
    return number(self, "double[1]", C.cadft_optimizer_norm)
end

-- Returns the report. sum_squares, if given, is that over all processes.
function Optimizer:step(sum_squares)
    local report = new("cadft_optimizer_report")
    call(self, C.cadft_optimizer_step, sum_squares and ffi.new("double[1]", sum_squares), report)
    local out = fields(report, "step lr grad_norm clip skipped_total")
    out.skipped = report.skipped ~= 0
    return out
end

-- Learning rate of a step, the first being 0.
function Optimizer:lr(step)
    return number(self, "double[1]", C.cadft_optimizer_lr, step)
end

function Optimizer:save(folder)
    call(self, C.cadft_optimizer_save, folder)
end

function Optimizer:load(folder)
    call(self, C.cadft_optimizer_load, folder)
end

Rewrite.save_state, Rewrite.load_state = save_state, load_state
require("cadft_rewrite")(cadft, Rewrite, Context)
return cadft
