-- SPDX-License-Identifier: Apache-2.0
-- The methods of rewriting, and those of a context for checkpoints.
local ffi = require("ffi")
local core = require("cadft_core")
jit.off(true, true) -- see cadft_core.lua

local C, new, fields = core.C, core.new, core.fields
local call, array, number = core.call_on, core.array, core.number

local function list(out, n)
    local result = {}
    for i = 1, n do
        result[i] = tonumber(out[i - 1])
    end
    return result
end

-- {folder=, step=, keep=, model=, optimizer=, loss=, rewrite=, host = a string}
local function checkpoint(parts)
    local raw = new("cadft_checkpoint")
    raw.folder, raw.step, raw.keep = parts.folder, parts.step, parts.keep or 0
    for _, noun in ipairs{"model", "optimizer", "loss", "rewrite"} do
        raw[noun] = parts[noun] and core.pointer(parts[noun])
    end
    raw.host = parts.host and ffi.cast("const char *", parts.host)
    raw.host_bytes = parts.host and #parts.host or 0
    return raw
end

local function methods(Rewrite, Context)
    -- Lists of ids, c and chat; one of the latter may be nil.
    function Rewrite:observe(ids, c, chat)
        local n = #ids
        if (c and #c ~= n) or (chat and #chat ~= n) then
            error("ids, c and chat differ in length", 2)
        end
        call(self, C.cadft_rewrite_observe, ffi.new("int64_t[?]", n, ids),
            c and ffi.new("double[?]", n, c), chat and ffi.new("double[?]", n, chat), n)
    end

    -- Lists of ids: the picks of a step, and those still open.
    function Rewrite:select(step)
        return list(array(self, "int64_t[?]", C.cadft_rewrite_select, step))
    end

    function Rewrite:open()
        return list(array(self, "int64_t[?]", C.cadft_rewrite_open))
    end

    -- answer: {tokens = {...}, ended = true, c_new=, c_old=}. Returns CADFT_REJECTED_...,
    -- 0 if it was taken.
    function Rewrite:commit(id, answer)
        local raw, tokens = new("cadft_rewrite_result"), answer.tokens or {}
        local memory = ffi.new("int32_t[?]", #tokens, tokens)
        raw.ended, raw.tokens, raw.n_tokens = answer.ended and 1 or 0, memory, #tokens
        raw.c_new, raw.c_old = answer.c_new or 0 / 0, answer.c_old or 0 / 0
        return number(self, "int32_t[1]", C.cadft_rewrite_commit, id, raw)
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

    function Rewrite:sample(id)
        local info = new("cadft_rewrite_info")
        call(self, C.cadft_rewrite_sample, id, info)
        return fields(info, "is_open average c observations rewrites is_rewritten")
    end

    function Context:save_checkpoint(parts)
        call(self, C.cadft_checkpoint_save, checkpoint(parts))
    end

    -- Step of the newest checkpoint below `before`, or nil.
    function Context:find_checkpoint(folder, before)
        local step = number(self, "int64_t[1]", C.cadft_checkpoint_find, folder, before or -1)
        return step >= 0 and step or nil
    end

    -- Loads the parts that are given. Returns the host's string.
    function Context:load_checkpoint(parts)
        local n = ffi.new("size_t[1]")
        local none = checkpoint{folder = parts.folder, step = parts.step}
        call(self, C.cadft_checkpoint_load, none, nil, 0, n)
        local host = ffi.new("char[?]", tonumber(n[0]) + 1)
        call(self, C.cadft_checkpoint_load, checkpoint(parts), host, n[0], n)
        return ffi.string(host, n[0])
    end
end

return methods
