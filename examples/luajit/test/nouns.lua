-- SPDX-License-Identifier: Apache-2.0
-- Tests of model, optimizer, rewriting and checkpoints, and of steps of the loss with them.
local ffi = require("ffi")
local cadft = require("cadft")
local check = require("check")
local train = require("train")
local C, refused, fails = cadft.C, check.refused, check.fails
local tests, scratch = {}, nil

function tests.generate()
    local context = cadft.context()
    local model = train.model(context)
    local options = {tokens = cadft.tensor({1, 2, 3, 4}, {2, 2}), max_new_tokens = 5,
        temperature = 1, keys = {7, 8}}
    local all = model:generate(options)
    assert(#all == 2 and #all[1] == 5 and #all[2] == 5)
    assert(table.concat(model:generate(options)[2], " ") == table.concat(all[2], " "))
    local seen = 0
    options.on_token = function(prompt, _, _, logprob)
        seen = seen + 1
        assert(logprob <= 0)
        return prompt == 1
    end
    local ended = model:generate(options)
    assert(seen == 6 and #ended[1] == 5 and #ended[2] == 1 and ended[2][1] == all[2][1])
    options.on_token = function()
        error("enough", 0)
    end
    assert(refused(C.CADFT_E_CALLBACK, model.generate, model, options).cause == "enough")
    options.on_token = nil
    options.stop_tokens = {all[1][1]}
    assert(#model:generate(options)[1] == 1)
    options.keys = {1}
    fails("1 keys, 2 prompts", model.generate, model, options)
    refused(C.CADFT_E_ARG, model.generate, model, {tokens = options.tokens, max_new_tokens = -1})
end

function tests.training()
    local context = cadft.context()
    local model, loss = train.model(context), context:loss{label_offset = 1}
    local optimizer = context:optimizer{lr = 1e-3}
    assert(optimizer:add_model(model) == model:fact("parameters"))
    assert(optimizer:group("*norm*", 0.5, 0) > 0)
    local before = math.huge
    for _ = 1, 3 do
        local nll = train.step(model, loss, optimizer).nll
        assert(nll < before, "the loss does not fall")
        before = nll
    end
    assert(optimizer:fact("steps") == 3 and optimizer:lr(0) == 1e-3 and optimizer:norm() > 0)
    model:save(scratch .. "/model")
    optimizer:save(scratch .. "/optimizer")
    local copy, other = context:model(), context:optimizer()
    copy:load(scratch .. "/model")
    other:add_model(copy)
    other:load(scratch .. "/optimizer")
    assert(other:fact("steps") == 3)
    local one, two = model:parameter("model.norm.weight"), copy:parameter("model.norm.weight")
    for i = 0, one.value.shape[1] - 1 do
        assert(one.value.data[i] == two.value.data[i])
    end
end

-- A table of logits for each token is the model, written in Lua.
function tests.own_model()
    local context = cadft.context()
    local loss = context:loss()
    local sgd = context:optimizer{kind = "sgd", lr = 1, clip_norm = 0}
    local weights, grad = cadft.zeros("f32", {3, 3}), cadft.zeros("f32", {3, 3})
    sgd:add("table", weights, grad)
    local tokens, logits = {0, 1, 2, 0}, cadft.zeros("f32", {4, 3})
    local batch = {logits = logits, labels = cadft.tensor{1, 2, 0, 1},
        sample_ids = cadft.tensor{0, 0, 1, 1}}
    local before = math.huge
    for step = 1, 3 do
        for i = 0, 11 do
            logits.data[i] = weights.data[3 * tokens[math.floor(i / 3) + 1] + i % 3]
        end
        local nll = loss:compute(batch, 2, logits).nll
        assert(nll < before, "the loss does not fall")
        before = nll
        ffi.fill(grad.data, 9 * 4)
        for i = 0, 11 do
            local at = 3 * tokens[math.floor(i / 3) + 1] + i % 3
            grad.data[at] = grad.data[at] + logits.data[i]
        end
        assert(sgd:step().step == step)
    end
end

-- Two sequences, and the batch that they are together.
local micros = {
    {tokens = cadft.tensor{1, 2, 3, 4, 5}},
    {tokens = cadft.tensor{1, 9, 4, 20, 6, 30}},
}
local whole = {
    tokens = cadft.tensor{1, 2, 3, 4, 5, 1, 9, 4, 20, 6, 30},
    cu_seqlens = cadft.tensor{0, 5, 11},
}

local function rows(logits, batch, first_id)
    local n = batch.tokens.shape[1]
    local starts = batch.cu_seqlens or cadft.tensor{0, n}
    return {logits = logits, labels = batch.tokens,
        sample_ids = cadft.sample_ids_cu_seqlens(starts, n, first_id)}
end

local function gradient(context, model)
    local grad = model:parameter("model.embed_tokens.weight").grad
    local copy = cadft.zeros("f32", grad.shape)
    context:read(grad, copy)
    return copy.data, grad.shape[1] * grad.shape[2]
end

local function exact(model, loss, wanted)
    model:zero_grad()
    loss:begin(2)
    for i, micro in ipairs(micros) do
        local logits = model:forward{tokens = micro.tokens, no_grad = true}
        assert(loss:observe(rows(logits, micro, i - 1)) == i - 1)
    end
    refused(C.CADFT_E_PHASE, loss.report, loss)
    loss:weigh()
    local before, sum = loss:report(), 0
    assert(math.abs(before.loss - wanted) < 1e-12)
    for i, micro in ipairs(micros) do
        local logits = model:forward(micro)
        loss:grad(i - 1, rows(logits, micro, i - 1), logits)
        model:backward(logits)
        local each, n = loss:rows(i - 1, "loss")
        for r = 0, n - 1 do
            sum = sum + each[r]
        end
    end
    assert(math.abs(sum - wanted) < 1e-12)
    assert(loss:finish().loss == before.loss and loss:report().loss == before.loss)
end

-- Each micro-batch goes through the model once.
local function running(model, loss)
    loss:set{scope = "running", denominator = 9}
    model:zero_grad()
    loss:begin(2)
    local last = 0
    for i, micro in ipairs(micros) do
        local logits = model:forward(micro)
        local batch = rows(logits, micro, i - 1)
        local number = loss:observe(batch)
        loss:weigh()
        assert(loss:report().loss > last)
        last = loss:report().loss
        loss:grad(number, batch, logits)
        model:backward(logits)
    end
    assert(loss:finish().loss == last)
end

-- Two micro-batches give loss and gradient of the batch that they are together.
function tests.accumulation()
    local context = cadft.context()
    local model, loss = train.model(context), context:loss{label_offset = 1}
    model:zero_grad()
    local logits = model:forward(whole)
    local report = loss:compute(rows(logits, whole, 0), 2, logits)
    model:backward(logits)
    local wanted, n = gradient(context, model)
    exact(model, loss, report.loss)
    local got = gradient(context, model)
    for i = 0, n - 1 do
        assert(math.abs(wanted[i] - got[i]) < 1e-6)
    end
    assert(wanted[32] ~= 0)
    running(model, loss)

    local rewrite = context:rewrite(8)
    rewrite:observe({5, 7}, loss:samples("c"), loss:samples("chat"))
    assert(math.abs(rewrite:sample(7).c - loss:samples("c")[1]) < 1e-6)
    fails("differ in length", rewrite.observe, rewrite, {5}, loss:samples("c"))
end

-- A view that the model has voided says so.
function tests.views()
    local context = cadft.context()
    local model = train.model(context)
    local batch = {tokens = cadft.tensor{1, 2, 3}}
    local old = model:forward(batch)
    local logits = model:forward(batch)
    local copy = cadft.zeros("f32", logits.shape)
    fails("no longer there", context.read, context, old, copy)
    context:read(logits, copy)
    assert(copy.data[5] == logits.data[5])
    fails("no longer there", context.read, context, logits, old)
    fails("no longer there", context.write, context, logits, old)
    copy.data[5] = 42
    context:write(logits, copy)
    assert(logits.data[5] == 42)
    assert(model:parameter(0).grad == nil)
    model:zero_grad()
    local grad = model:parameter(0).grad
    model:backward(logits)
    context:read(grad, cadft.zeros("f32", grad.shape))
    assert(model:freeze("*", false) > 0 and not model:parameter(0).trainable)
    fails("no longer there", context.read, context, grad, cadft.zeros("f32", grad.shape))
    assert(model:plan{rows = 100} > 0)
    model:reserve{rows = 100, no_grad = true}
    logits = model:forward{tokens = batch.tokens, no_grad = true}
    model:set("checkpointing", true)
    fails("no longer there", context.read, context, logits, copy)
    logits = model:forward{tokens = batch.tokens, no_grad = true}
    local loss, small = context:loss(), rows(cadft.zeros("f32", {3, 32}), batch, 0)
    model:set("checkpointing", false)
    fails("no longer there", loss.compute, loss, small, 1, nil, logits)
    fails("tokns is none of", model.forward, model, {tokns = batch.tokens})
    assert(context:fact("bytes") > 0)
    model:close()
    fails("no longer there", context.read, context, logits, copy)
end

-- Picks 1 and 3 of step 1.
local function picked(context)
    local rewrite = context:rewrite(4, {warmup_steps = 1, interval = 1, fraction = 0.5,
        probability = 1})
    for _ = 1, 2 do
        rewrite:observe({0, 1, 2, 3}, nil, {-1, 2, 0.5, 1})
    end
    assert(not rewrite:due(0) and rewrite:due(1))
    assert(#rewrite:select(0) == 0 and table.concat(rewrite:select(1), " ") == "1 3")
    return rewrite
end

function tests.rewriting()
    local context = cadft.context()
    local rewrite = picked(context)
    assert(table.concat(rewrite:open(), " ") == "1 3")
    assert(rewrite:sample(1).is_open and not rewrite:sample(0).is_open)
    fails("an answer without tokens", rewrite.commit, rewrite, 1, {ended = true})
    fails("token is none of", rewrite.commit, rewrite, 1, {token = {5}})
    assert(rewrite:commit(1, {tokens = {5, 6, 7}, ended = true}) == C.CADFT_REJECTED_NOT)
    assert(rewrite:commit(3, {tokens = {5}}) == C.CADFT_REJECTED_NOT_ENDED)
    refused(C.CADFT_E_PHASE, rewrite.reject, rewrite, 3)
    assert(table.concat(rewrite:target(1), " ") == "5 6 7" and rewrite:target(0) == nil)
    local info = rewrite:sample(0)
    assert(info.average == -1 and info.observations == 2 and not info.is_rewritten)
    assert(rewrite:sample(1).is_rewritten and rewrite:fact("rewritten") == 1)
    fails("differ in length", rewrite.observe, rewrite, {0, 1}, {1}, nil)
    assert(table.concat(rewrite:select(2), " ") == "2 3")
    assert(rewrite:commit(3, {n_tokens = 9, ended = true}) == C.CADFT_REJECTED_NOT)
    assert(rewrite:sample(3).is_rewritten and rewrite:target(3) == nil)

    local state = rewrite:save_state()
    rewrite:restore(1)
    assert(rewrite:target(1) == nil)
    rewrite:load_state(state)
    assert(#rewrite:target(1) == 3 and table.concat(rewrite:open(), " ") == "2")
    rewrite:cancel()
    assert(#rewrite:open() == 0)
end

-- nll of two steps
local function two_steps(model, loss, optimizer)
    return train.step(model, loss, optimizer).nll, train.step(model, loss, optimizer).nll
end

-- The weights of a step depend on the steps before.
local function following(context)
    return context:loss{label_offset = 1, scope = "running", reduction = "sum"}
end

local function resumed(context, folder)
    local step = context:find_checkpoint(folder)
    assert(step == 2)
    local model, loss = context:model(), following(context)
    local optimizer, rewrite = context:optimizer(), context:rewrite(4)
    context:load_checkpoint{folder = folder, step = step, model = model}
    optimizer:add_model(model)
    assert(context:load_checkpoint{folder = folder, step = step, optimizer = optimizer,
        loss = loss, rewrite = rewrite} == "a\0b")
    assert(table.concat(rewrite:open(), " ") == "1 3")
    return two_steps(model, loss, optimizer)
end

-- A run that goes on from a checkpoint takes the steps of one that was not stopped.
function tests.checkpoints()
    local context, folder = cadft.context(), scratch .. "/run"
    local model, loss = train.model(context), following(context)
    local optimizer = context:optimizer()
    optimizer:add_model(model)
    assert(context:find_checkpoint(folder) == nil)
    fails("modle is none of", context.save_checkpoint, context, {folder = folder, modle = model})
    context:save_checkpoint{folder = folder, step = 1, model = model}
    two_steps(model, loss, optimizer)
    context:save_checkpoint{folder = folder, step = 2, model = model, optimizer = optimizer,
        loss = loss, rewrite = picked(context), host = "a\0b"}
    local one, two = two_steps(model, loss, optimizer)
    local third, fourth = resumed(context, folder)
    assert(one == third and two == fourth)

    assert(context:load_checkpoint{folder = folder, step = 1} == "")
    local path = cadft.checkpoint_path(folder, 2)
    context:model():load(path)
    local file = assert(io.open(path .. "/checkpoint.json", "w"))
    file:write("{")
    file:close()
    assert(context:find_checkpoint(folder) == 2 and context:find_checkpoint(folder, 2) == 1)
    refused(C.CADFT_E_FORMAT, context.load_checkpoint, context, {folder = folder, step = 2})
    refused(C.CADFT_E_ARG, cadft.checkpoint_path, folder, -1)
end

return function(folder)
    scratch = folder
    return tests
end
