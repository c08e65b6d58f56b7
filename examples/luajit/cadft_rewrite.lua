-- SPDX-License-Identifier: Apache-2.0
-- The methods of rewriting, and those of a context for checkpoints.
local ffi = require("ffi")
local core = require("cadft_core")
jit.off(true, true) -- see cadft_core.lua

local C, new, fields = core.C, core.new, core.fields
local call, array, number, only = core.call_on, core.array, core.number, core.only

local function list(out, n)
    local result = {}
    for i = 1, n do
        result[i] = tonumber(out[i - 1])
    end
    return result
end

local function doubles(values, n)
    local is_list = type(values) == "table"
    if values ~= nil and n ~= (is_list and #values or ffi.sizeof(values) / 8) then
        error("ids, c and chat differ in length", 3)
    end
    return is_list and ffi.new("double[?]", n, values) or values
end

-- {folder=, step=, keep=, model=, optimizer=, loss=, rewrite=, host = a string}
local function checkpoint(parts)
    local raw = new("cadft_checkpoint")
    only("folder step keep model optimizer loss rewrite host", parts)
    raw.folder, raw.step, raw.keep = parts.folder, parts.step, parts.keep or 0
    for _, noun in ipairs{"model", "optimizer", "loss", "rewrite"} do
        raw[noun] = parts[noun] and core.pointer(parts[noun])
    end
    raw.host = parts.host and ffi.cast("const char *", parts.host)
    raw.host_bytes = parts.host and #parts.host or 0
    return raw
end

local function methods(cadft, Rewrite, Context)
    -- ids: a list. c, chat: lists, or arrays as loss:samples returns them; one may be nil.
    function Rewrite:observe(ids, c, chat)
        call(self, C.cadft_rewrite_observe, ffi.new("int64_t[?]", #ids, ids), doubles(c, #ids),
            doubles(chat, #ids), #ids)
    end

    -- May select pick any at this step?
    function Rewrite:due(step)
        return number(self, "int32_t[1]", C.cadft_rewrite_due, step) ~= 0
    end

    -- Lists of ids: the picks of a step, and those still open.
    function Rewrite:select(step)
        return list(array(self, "int64_t[?]", C.cadft_rewrite_select, step))
    end

    function Rewrite:open()
        return list(array(self, "int64_t[?]", C.cadft_rewrite_open))
    end

    -- answer: {tokens = {...}, ended = true, c_new=, c_old=}, or n_tokens instead of tokens that
    -- the host keeps. Returns CADFT_REJECTED_..., 0 if it was taken.
    function Rewrite:commit(id, answer)
        only("tokens n_tokens ended c_new c_old", answer)
        local raw, tokens = new("cadft_rewrite_result"), answer.tokens
        local memory = tokens and ffi.new("int32_t[?]", #tokens, tokens)
        raw.tokens, raw.n_tokens = memory, tokens and #tokens or answer.n_tokens
            or error("an answer without tokens", 2)
        raw.ended = answer.ended and 1 or 0
        raw.c_new, raw.c_old = answer.c_new or 0 / 0, answer.c_old or 0 / 0
        local rejected = number(self, "int32_t[1]", C.cadft_rewrite_commit, id, raw)
        return rejected -- a tail call would let go of the tokens
    end

    function Rewrite:reject(id)
        call(self, C.cadft_rewrite_reject, id)
    end

    function Rewrite:cancel()
        C.cadft_rewrite_cancel(core.pointer(self))
    end

    function Rewrite:restore(id)
        call(self, C.cadft_rewrite_restore, id)
    end

    -- The tokens that replace the target of a sample, or nil.
    function Rewrite:target(id)
        local tokens, n = ffi.new("const int32_t *[1]"), ffi.new("int64_t[1]")
        call(self, C.cadft_rewrite_target, id, tokens, n)
        return tokens[0] ~= nil and list(tokens[0], tonumber(n[0])) or nil
    end

    -- {is_open=, average=, c=, observations=, rewrites=, is_rewritten=}
    function Rewrite:sample(id)
        local info = new("cadft_rewrite_info")
        call(self, C.cadft_rewrite_sample, id, info)
        local out = fields(info, "average c observations rewrites")
        out.is_open, out.is_rewritten = info.is_open ~= 0, info.is_rewritten ~= 0
        return out
    end

    function Context:save_checkpoint(parts)
        call(self, C.cadft_checkpoint_save, checkpoint(parts))
    end

    -- Step of the newest checkpoint, of those below `before` if that is given, or nil. It goes by
    -- names: whether the checkpoint is damaged load_checkpoint says.
    function Context:find_checkpoint(folder, before)
        local step = number(self, "int64_t[1]", C.cadft_checkpoint_find, folder, before or -1)
        return step >= 0 and step or nil
    end

    -- Loads the parts that are given. Returns the host's string, empty if it saved none.
    function Context:load_checkpoint(parts)
        local n = ffi.new("size_t[1]")
        local none = checkpoint{folder = parts.folder, step = parts.step}
        call(self, C.cadft_checkpoint_load, none, nil, 0, n)
        local host = ffi.new("char[?]", tonumber(n[0]))
        call(self, C.cadft_checkpoint_load, checkpoint(parts), host, n[0], n)
        return ffi.string(host, n[0])
    end

    -- The folder of a step's checkpoint, there or not: model:load takes it.
    function cadft.checkpoint_path(folder, step)
        local needed = ffi.new("size_t[1]")
        cadft.call(C.cadft_checkpoint_path, folder, step, nil, 0, needed)
        local path = ffi.new("char[?]", tonumber(needed[0]))
        cadft.call(C.cadft_checkpoint_path, folder, step, path, needed[0], nil)
        return ffi.string(path)
    end
end

return methods
