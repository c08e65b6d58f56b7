-- SPDX-License-Identifier: Apache-2.0
-- What the handles of cadft.lua are made of: errors, tensors, calls, callbacks.
local ffi = require("ffi")

-- A function of the library may call back into Lua, which must not happen from compiled code:
-- nothing in this file is compiled.
jit.off(true, true)

ffi.cdef(require("cadft_h"))
local C = ffi.load("libcadft.so.0")

local core = {C = C}

-- ------------------------------------------------------------------------------------ errors

-- What a call throws: {status = -50, name = "CADFT_E_LABEL", message = ..., cause = ...}; cause
-- is the error of a callback, if that ended the call.
local Error = {}
Error.__index = Error
core.Error = Error

function Error:__tostring()
    return self.name .. ": " .. self.message
end

local function fail(status, error_struct, cause)
    error(setmetatable({
        status = status,
        name = ffi.string(C.cadft_status_string(status)),
        message = ffi.string(error_struct.message),
        cause = cause,
    }, Error), 0)
end

-- A struct of the headers with its struct_size.
local function new(name)
    local struct = ffi.new(name)
    struct.struct_size = ffi.sizeof(struct)
    return struct
end
core.new = new

-- Calls a function that needs no handle: its arguments without the error.
function core.call(fn, ...)
    local err = new("cadft_error")
    local arguments, n = {...}, select("#", ...)
    arguments[n + 1] = err
    local status = fn(unpack(arguments, 1, n + 1))
    if status ~= C.CADFT_OK then
        fail(status, err)
    end
end

-- ----------------------------------------------------------------------------------- tensors

local types = {
    f32 = {"float", C.CADFT_DTYPE_F32},
    f64 = {"double", C.CADFT_DTYPE_F64},
    i32 = {"int32_t", C.CADFT_DTYPE_I32},
    i64 = {"int64_t", C.CADFT_DTYPE_I64},
    bf16 = {"uint16_t", C.CADFT_DTYPE_BF16},
    f16 = {"uint16_t", C.CADFT_DTYPE_F16},
}
-- As LuaJIT prints the types of elements.
local printed = {float = "f32", double = "f64", int = "i32", int64_t = "i64"}

local Tensor = {}
Tensor.__index = Tensor

local function count(shape)
    local n = 1
    for _, d in ipairs(shape) do
        if d < 0 or d % 1 ~= 0 then
            error("a dimension is " .. d, 3)
        end
        n = n * d
    end
    return n
end

local function copied(list, kind, dtype)
    local data = ffi.new(kind[1] .. "[?]", #list, list)
    for i = 1, kind[1]:find("int", 1, true) and #list or 0 do
        if tonumber(data[i - 1]) ~= list[i] or kind[1] == "uint16_t" then
            error(("element %d is %s, which %s in a list cannot be"):format(i, list[i], dtype), 3)
        end
    end
    return data
end

-- A view of `data`, an array or pointer of ffi, without a copy; or a copy of a list of numbers.
-- dtype may be left out where the elements tell it: float, double, int32_t, int64_t.
function core.tensor(data, shape, dtype)
    if type(data) == "table" then
        dtype = dtype or "i32"
        local kind = types[dtype] or error("dtype " .. tostring(dtype), 2)
        shape = shape or {#data}
        if count(shape) ~= #data then
            error(("the shape has %d elements, the list %d"):format(count(shape), #data), 2)
        end
        data = copied(data, kind, dtype)
    end
    local written = tostring(ffi.typeof(data))
    local element, brackets = written:match("^ctype<([%w_ ]-) ([%[%*%(].*)>$")
    dtype = dtype or printed[element] or error("no dtype for " .. written, 2)
    local kind = types[dtype] or error("dtype " .. tostring(dtype), 2)
    if not element or ffi.sizeof(element) ~= ffi.sizeof(kind[1]) then
        error(written .. " is no memory of " .. dtype, 2)
    end
    -- The length of an array is known, that of a pointer is not.
    local room = brackets:find("*", 1, true) and math.huge
        or ffi.sizeof(data) / ffi.sizeof(element)
    if count(shape) > room then
        error(("the shape has %d elements, the array %d"):format(count(shape), room), 2)
    end
    local view = ffi.new("cadft_tensor")
    local dims = ffi.new("int64_t[?]", math.max(1, #shape), shape)
    core.call(C.cadft_tensor_init, view, ffi.sizeof(view), data, kind[2], #shape, dims, nil)
    return setmetatable({data = data, shape = shape, dtype = dtype, view = view, dims = dims},
        Tensor)
end

-- New memory, zero.
function core.zeros(dtype, shape)
    local kind = types[dtype] or error("dtype " .. tostring(dtype), 2)
    return core.tensor(ffi.new(kind[1] .. "[?]", count(shape)), shape, dtype)
end

-- A tensor of the library's memory. `valid` tells whether it is still there.
local function borrowed(view, owner, valid)
    local shape = {}
    for d = 0, view.ndim - 1 do
        shape[d + 1] = tonumber(view.shape[d])
    end
    local code = view.dtype_code + view.dtype_bits * 256 + view.dtype_lanes * 65536
    for dtype, kind in pairs(types) do
        if kind[2] == code then
            local first = ffi.cast("char *", view.data) + view.byte_offset
            return setmetatable({data = ffi.cast(kind[1] .. " *", first), shape = shape,
                dtype = dtype, view = view, owner = owner, valid = valid}, Tensor)
        end
    end
    error("the library gave an unknown data type")
end

-- The struct of a tensor for a call, during which the tensor must stay reachable.
local function view(tensor)
    if tensor == nil then
        return nil
    end
    if getmetatable(tensor) ~= Tensor then
        error("expected a tensor, see cadft.tensor", 3)
    end
    if tensor.valid and not tensor.valid() then
        error("the memory of the tensor is no longer there", 3)
    end
    return tensor.view
end

-- The memory itself, likewise, and its bytes.
local function memory(tensor)
    if not view(tensor) then
        error("expected a tensor, see cadft.tensor", 3)
    end
    return tensor.data, count(tensor.shape) * ffi.sizeof(types[tensor.dtype][1])
end

-- ----------------------------------------------------------------------------------- handles

local function release(shared)
    shared.refs = shared.refs - 1
    if shared.refs == 0 and shared.callback then
        shared.callback:free()
    end
end

-- A handle is a table with the C pointer. `hold` has what the library may use until the handle is
-- destroyed: callbacks, memory. The finalizer refers to it, and so must it not to the handle.
-- `shared` is of the context and counts its handles: its log may be called while there is one.
local function open(class, pointer, destroy, shared)
    local hold = {}
    shared.refs = shared.refs + 1
    local function finish(p)
        destroy(p)
        if hold.callback then
            hold.callback:free()
        end
        release(shared)
    end
    return setmetatable({p = ffi.gc(pointer, finish), finalizer = finish, hold = hold,
        shared = shared, calls = 0}, class)
end

local function pointer(self)
    if type(self) ~= "table" or not self.noun then
        error("expected a handle, got " .. tostring(self), 3)
    end
    return self.p or error(self.noun .. " is closed", 3)
end

-- The arguments of a call, none of which has another name: a misspelt one would be left out.
local function only(names, arguments)
    for name in pairs(arguments) do
        if not (" " .. names .. " "):find(" " .. tostring(name) .. " ", 1, true) then
            error(("%s is none of the arguments %s"):format(tostring(name), names), 3)
        end
    end
    return arguments
end

-- Calls fn(handle, ..., error). A struct does not keep what it points to: the method that made it
-- holds that in a local and makes no tail call.
local function call(self, fn, ...)
    local err, p = new("cadft_error"), pointer(self)
    local arguments, n = {...}, select("#", ...)
    arguments[n + 1] = err
    self.calls = self.calls + 1
    -- pcall for an argument that ffi cannot convert.
    local good, status = pcall(fn, p, unpack(arguments, 1, n + 1))
    self.calls = self.calls - 1
    local cause = self.hold.thrown
    self.hold.thrown = nil
    if not good then
        error(status, 3)
    elseif status ~= C.CADFT_OK then
        fail(status, err, cause)
    end
end

-- The array that fn(handle, ..., out, capacity, needed, error) fills, and its length.
local function array(self, ctype, fn, ...)
    local arguments, n = {...}, select("#", ...)
    local needed = ffi.new("size_t[1]")
    arguments[n + 1], arguments[n + 2], arguments[n + 3] = nil, 0, needed
    call(self, fn, unpack(arguments, 1, n + 3))
    local length = tonumber(needed[0])
    local out = ffi.new(ctype, length)
    arguments[n + 1], arguments[n + 2] = out, length
    call(self, fn, unpack(arguments, 1, n + 3))
    return out, length
end

local function text(self, fn, ...)
    return ffi.string((array(self, "char[?]", fn, ...)))
end

local function bytes(self, fn)
    local out, length = array(self, "char[?]", fn)
    return ffi.string(out, length)
end

-- One number that fn(handle, ..., out, error) writes.
local function number(self, ctype, fn, ...)
    local out = ffi.new(ctype)
    local arguments, n = {...}, select("#", ...)
    arguments[n + 1] = out
    call(self, fn, unpack(arguments, 1, n + 1))
    return tonumber(out[0])
end

-- A C function that calls fn. An error in fn must not cross the frames of C: it is kept, and the
-- function returns `failed`.
local function callback(ctype, hold, failed, fn)
    return ffi.cast(ctype, function(...)
        local good, result = pcall(fn, ...)
        if good then
            return result
        end
        hold.thrown = result
        return failed
    end)
end

-- The fields of a report as a table of numbers.
local function fields(struct, names)
    local out = {}
    for name in names:gmatch("%S+") do
        out[name] = tonumber(struct[name])
    end
    return out
end

local function class(noun)
    local methods = {noun = noun}
    methods.__index = methods
    local prefix = "cadft_" .. noun .. "_"

    -- Gives the handle back; does nothing the second time.
    function methods:close()
        if self.calls > 0 then
            error(noun .. " cannot be closed by its own callback", 2)
        end
        local p = self.p
        if p then
            self.p = nil
            ffi.gc(p, nil)
            self.finalizer(p)
        end
    end

    -- Calls cadft_NOUN_NAME(handle, ..., error): what has no method.
    function methods:call(name, ...)
        call(self, C[prefix .. name], ...)
    end

    local function key(name)
        local out = ffi.new("int32_t[1]")
        core.call(C[prefix .. "key"], name, out)
        return out[0]
    end

    -- Names of all knobs.
    function methods:knobs()
        local names, name = {}, ffi.new("const char *[1]")
        while C[prefix .. "key_at"](#names, name, nil, nil) == C.CADFT_OK do
            names[#names + 1] = ffi.string(name[0])
        end
        return names
    end

    -- set("beta", 2), or set{beta = 2, objective = "dft"}.
    function methods:set(name, value)
        if type(name) == "table" then
            for each, its in pairs(name) do
                self:set(each, its)
            end
            return self
        end
        if type(value) == "number" then
            value = ("%.17g"):format(value)
        elseif type(value) == "boolean" then
            value = value and "1" or "0"
        end
        call(self, C[prefix .. "set_str"], key(name), value)
        return self
    end

    -- A knob: a number, or the name of its value.
    function methods:get(name)
        local value = text(self, C[prefix .. "get_str"], key(name))
        return tonumber(value) or value
    end

    -- What a handle tells of itself: fact("steps") for CADFT_OPTIMIZER_STEPS.
    function methods:fact(name)
        return number(self, "int64_t[1]", C[prefix .. "get_i64"], key(name))
    end
    return methods
end

core.fail, core.count = fail, count
core.borrowed, core.view, core.memory = borrowed, view, memory
core.release, core.open, core.pointer, core.only = release, open, pointer, only
core.call_on, core.array, core.text, core.bytes, core.number = call, array, text, bytes, number
core.callback, core.fields, core.class = callback, fields, class
return core
