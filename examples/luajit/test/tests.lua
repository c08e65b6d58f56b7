-- SPDX-License-Identifier: Apache-2.0
-- luajit tests.lua GOLDEN_TEXT SCRATCH: runs all tests, one by one.
local ffi = require("ffi")
local cadft = require("cadft")
local train = require("train")
local golden = require("golden")
local check = require("check")
local C, refused, fails = cadft.C, check.refused, check.fails
local golden_text, scratch = ...
local tests = require("nouns")(scratch)

local function small_batch()
    return {
        logits = cadft.tensor({1, 2, 3, 4}, {2, 2}, "f32"),
        labels = cadft.tensor{0, 1},
        sample_ids = cadft.tensor{0, 0},
    }
end

function tests.golden()
    golden.run(golden_text)
end

function tests.tensors()
    local data = ffi.new("float[7]", 9, 9, 2, 0, 0, 2, 9)
    fails("the shape has 8 elements, the array 7", cadft.tensor, data, {8})
    fails("the shape has 3 elements, the list 2", cadft.tensor, {1, 2}, {3})
    fails("no dtype", cadft.tensor, ffi.new("uint16_t[4]"), {4})
    fails("is no memory of i32", cadft.tensor, ffi.new("double[4]"), {4}, "i32")
    fails("dtype f8", cadft.tensor, {1}, {1}, "f8")
    fails("element 2 is 1.5", cadft.tensor, {1, 1.5})
    fails("element 1 is 4294967296", cadft.tensor, {2 ^ 32})
    fails("element 1 is 1, which bf16", cadft.tensor, {1}, {1}, "bf16")
    fails("a dimension is -1", cadft.tensor, data, {-1})
    cadft.tensor(ffi.new("uint16_t[4]"), {2, 2}, "bf16")
    cadft.tensor(ffi.new("int64_t[4]"), {4})
    refused(C.CADFT_E_ARG, cadft.tensor, data, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})

    -- A pointer into an array: no copy, and nothing beside it is written.
    local context = cadft.context()
    local logits = cadft.tensor(data + 2, {2, 2})
    context:loss():compute({logits = logits, labels = cadft.tensor({0, 0}, {2}, "i64"),
        sample_ids = cadft.tensor{0, 1}}, 2, logits)
    assert(data[1] == 9 and data[6] == 9 and data[2] < 0 and data[3] > 0)
    fails("expected a tensor", context:loss().compute, context:loss(), {logits = data}, 1)
    context:close()
end

function tests.sample_ids()
    local function same(ids, ...)
        for i, wanted in ipairs{...} do
            assert(ids.data[i - 1] == wanted)
        end
    end
    same(cadft.sample_ids_padded(2, 3, cadft.tensor{3, 1}, 5), 5, 5, 5, 6, -1, -1)
    same(cadft.sample_ids_cu_seqlens(cadft.tensor({0, 1, 3}, nil, "i64"), 4), 0, 1, 1, -1)
    local ids, n = cadft.sample_ids_position_ids(cadft.tensor{0, 1, 0, 1, 2})
    same(ids, 0, 0, 1, 1, 1)
    assert(n == 2)
    refused(C.CADFT_E_ARG, cadft.sample_ids_cu_seqlens, cadft.tensor{0, 9}, 4)
end

function tests.errors()
    local context = cadft.context()
    local loss, batch = context:loss(), small_batch()
    batch.labels = cadft.tensor{0, 7}
    local thrown = refused(C.CADFT_E_LABEL, loss.compute, loss, batch, 1)
    assert(thrown.name == "CADFT_E_LABEL" and thrown.message:find("7", 1, true))
    assert(tostring(thrown) == "CADFT_E_LABEL: " .. thrown.message)
    assert(context:text("last_error") == thrown.message)
    refused(C.CADFT_E_PHASE, loss.weigh, loss)
    refused(C.CADFT_E_NULL, loss.compute, loss, {}, 1)
    refused(C.CADFT_E_STATE, loss.load_state, loss, ("x"):rep(40))
    loss:load_state(loss:save_state())
    refused(C.CADFT_E_BACKEND, cadft.context, {backend = "abacus"})
    refused(C.CADFT_E_ARG, cadft.context, {threads = -1})
    fails("thread is none of", cadft.context, {thread = 1})
    fails("expected a handle", loss.weigh, batch)
    -- An argument that ffi refuses leaves the handle as it was.
    assert(not pcall(loss.begin, loss, "many"))
    loss:close()
    context:close()
end

function tests.knobs()
    local context = cadft.context{threads = 1}
    local loss = context:loss{objective = "power", power_q = 0.1, renormalise = true}
    assert(loss:get("objective") == "power" and loss:get("power_q") == 0.1)
    assert(loss:get("renormalise") == 1)
    refused(C.CADFT_E_KEY, loss.set, loss, "power", 1)
    refused(C.CADFT_E_ARG, loss.set, loss, "power_q", 0 / 0)
    refused(C.CADFT_E_KEY, context.loss, context, {bta = 1})
    refused(C.CADFT_E_PHASE, function()
        return context:model():fact("vocab")
    end)
    local value = ffi.new("double[1]")
    loss:call("get_f64", C.CADFT_LOSS_POWER_Q, value)
    assert(value[0] == 0.1)
    for _, noun in ipairs{loss, context:model(), context:optimizer(), context:rewrite(1)} do
        local names = noun:knobs()
        assert(#names >= 2)
        for _, name in ipairs(names) do
            assert(noun:get(name))
        end
    end
    assert(context:text("backend") == "cpu" and context:fact("workers") == 1)
    assert(cadft.version() > 0)
end

function tests.coefficient()
    local context = cadft.context()
    local loss, batch = context:loss{objective = "host"}, small_batch()
    local wanted, got = cadft.zeros("f32", {2, 2}), cadft.zeros("f32", {2, 2})
    context:loss():compute(batch, 1, wanted)
    loss:set_coefficient(function(rows, _, p, _, k)
        for r = 0, rows - 1 do
            k[r] = p[r]
        end
    end)
    collectgarbage()
    loss:compute(batch, 1, got)
    assert(ffi.string(wanted.data, 16) == ffi.string(got.data, 16), "k = p is DFT")
    -- From a loop that gets hot: calls that call back must not be compiled.
    for _ = 1, 300 do
        loss:compute(batch, 1, got)
    end

    loss:set_coefficient(function()
        error({mine = true})
    end)
    local thrown = refused(C.CADFT_E_CALLBACK, loss.compute, loss, batch, 1, got)
    assert(thrown.cause.mine)
    assert(not refused(C.CADFT_E_PHASE, loss.weigh, loss).cause)
    loss:set_coefficient(function()
        loss:begin(1)
    end)
    thrown = refused(C.CADFT_E_CALLBACK, loss.compute, loss, batch, 1, got)
    assert(thrown.cause.status == C.CADFT_E_BUSY)
    loss:set_coefficient(function()
        loss:close()
    end)
    thrown = refused(C.CADFT_E_CALLBACK, loss.compute, loss, batch, 1, got)
    assert(tostring(thrown.cause):find("its own callback", 1, true))
    loss:set_coefficient(nil)
    assert(not pcall(loss.compute, loss, batch, 1, got))
    loss:close()
end

-- LuaJIT has a few hundred places for callbacks: they are given back.
function tests.callbacks_freed()
    local context = cadft.context()
    for _ = 1, 3000 do
        local loss = context:loss()
        loss:set_coefficient(function() end)
        loss:set_coefficient(function() end)
        loss:close()
    end
    local loss = context:loss()
    loss:begin(1)
    for _ = 1, 3000 do
        refused(C.CADFT_E_PHASE, loss.set_coefficient, loss, function() end)
    end
    for _ = 1, 3000 do
        cadft.context{threads = 1, log = function() end}:close()
    end
end

-- An allocator that counts; it is destroyed with the last handle of its context.
local function counter()
    ffi.cdef("void *aligned_alloc(size_t align, size_t size); void free(void *memory);")
    local raw, counts = cadft.new("cadft_allocator"), {bytes = 0, destroyed = 0}
    raw.alloc = function(_, size, align)
        counts.bytes = counts.bytes + tonumber(size)
        return ffi.C.aligned_alloc(align, (size + align - 1) / align * align)
    end
    raw.free = function(_, memory, size)
        counts.bytes = counts.bytes - tonumber(size)
        ffi.C.free(memory)
    end
    raw.destroy = function()
        counts.destroyed = counts.destroyed + 1
    end
    function counts.free_callbacks()
        raw.alloc:free()
        raw.free:free()
        raw.destroy:free()
    end
    return raw, counts
end

-- The handles of a trainer that has taken a step.
local function trainer(allocator)
    local context = cadft.context{allocator = allocator}
    local model, loss = train.model(context), context:loss{label_offset = 1}
    local optimizer = context:optimizer()
    optimizer:add_model(model)
    train.step(model, loss, optimizer)
    loss:set_coefficient(function() end)
    loss:begin(1)
    return {context, model, loss, optimizer, context:rewrite(10)}
end

function tests.orders()
    local seed = os.time()
    math.randomseed(seed)
    for _ = 1, 24 do
        local allocator, counts = counter()
        local handles = trainer(allocator)
        while #handles > 0 do
            assert(counts.destroyed == 0, "destroyed too early, seed " .. seed)
            local handle = table.remove(handles, math.random(#handles))
            handle:close()
            handle:close()
        end
        assert(counts.destroyed == 1 and counts.bytes == 0, "seed " .. seed)
        counts.free_callbacks()
    end
end

function tests.collected()
    local allocator, counts = counter()
    assert(#trainer(allocator) == 5)
    for _ = 1, 10 do
        collectgarbage()
    end
    assert(counts.destroyed == 1 and counts.bytes == 0, "not collected")
    counts.free_callbacks()
end

function tests.after_close()
    local context = cadft.context()
    local loss = context:loss()
    context:close()
    loss:set("beta", 2)
    fails("context is closed", context.loss, context)
    loss:close()
    fails("loss is closed", loss.weigh, loss)
    fails("loss is closed", loss.cancel, loss)
    fails("loss is closed", loss.call, loss, "weigh")
end

-- What a call alone refers to lives as long as the call. Blocks of this size go back to the
-- system when they are freed, so that using one is noticed.
function tests.temporaries()
    local context, rows, tokens = cadft.context{threads = 1}, 65536, {}
    local loss, rewrite = context:loss(), context:rewrite(1, {warmup_steps = 1, interval = 1,
        fraction = 1, probability = 1, min_observations = 1})
    rewrite:observe({0}, nil, {1})
    for i = 1, rows do
        tokens[i] = i
    end
    local function batch()
        return {logits = cadft.zeros("f32", {rows, 2}), labels = cadft.zeros("i32", {rows}),
            sample_ids = cadft.zeros("i32", {rows})}
    end
    collectgarbage("setpause", 0)
    collectgarbage("setstepmul", 100000)
    for _ = 1, 20 do
        loss:begin(1)
        loss:observe(batch(), cadft.zeros("f32", {rows, 2}))
        loss:weigh()
        loss:grad(-1, batch(), cadft.zeros("f32", {rows, 2}))
        loss:cancel()
        loss:compute(batch(), 1, cadft.zeros("f32", {rows, 2}), cadft.zeros("f32", {rows}))
        cadft.sample_ids_position_ids(cadft.zeros("i64", {rows}))
        context:read(cadft.zeros("f32", {rows, 2}), cadft.zeros("f32", {rows, 2}))
    end
    assert(#rewrite:select(1) == 1)
    rewrite:commit(0, {tokens = tokens, ended = true})
    for i, token in ipairs(rewrite:target(0)) do
        assert(token == i)
    end
    collectgarbage("setpause", 200)
    collectgarbage("setstepmul", 200)
end

-- A child writes to the log of a context that is closed and collected.
function tests.log()
    local lines = {}
    local function optimizer()
        local context = cadft.context{log = function(level, line)
            lines[#lines + 1] = level .. line
        end}
        local made = context:optimizer()
        context:close()
        return made
    end
    local made = optimizer()
    collectgarbage()
    collectgarbage()
    made:add("w", cadft.tensor({1}, {1}, "f32"), cadft.tensor({0 / 0}, {1}, "f32"))
    collectgarbage()
    assert(made:step().skipped)
    assert(#lines == 1 and lines[1]:find("skipped", 1, true))
    made:close()
end

local names = {}
for name in pairs(tests) do
    names[#names + 1] = name
end
table.sort(names)
for _, name in ipairs(names) do
    io.write(name, " ")
    io.flush()
    tests[name]()
    print("passed")
end
