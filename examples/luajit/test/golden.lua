-- SPDX-License-Identifier: Apache-2.0
-- Replays the golden cases (doc/bindings.md) and compares every bit.
local ffi = require("ffi")
local cadft = require("cadft")

local golden = {}

local lines, at, name

local function is_next(word)
    return lines[at] and lines[at]:sub(1, #word + 1) == word .. " "
end

-- What stands behind the first word of the line, which must be `word`.
local function take(word)
    assert(is_next(word), "line " .. at .. ": expected " .. word)
    at = at + 1
    return lines[at - 1]:sub(#word + 2)
end

local function hex(data, bytes)
    return (ffi.string(data, bytes):gsub(".", function(c)
        return ("%02x"):format(c:byte())
    end))
end

local function same(word, data, bytes)
    if take(word) ~= hex(data, bytes) then
        error(name .. ": " .. word .. " differs")
    end
end

local function tensor(word)
    local words = {}
    for w in take(word):gmatch("%S+") do
        words[#words + 1] = w
    end
    local shape = {}
    for d = 1, tonumber(words[2]) do
        shape[d] = tonumber(words[2 + d])
    end
    local made = cadft.zeros(words[1], shape)
    local raw = (words[3 + #shape] or ""):gsub("%x%x", function(digits)
        return string.char(tonumber(digits, 16))
    end)
    ffi.copy(made.data, raw, #raw)
    return made
end

local function batches()
    local list = {}
    while is_next("micro") do
        local valid = tonumber(take("micro"))
        list[#list + 1] = {
            logits = tensor("logits"),
            labels = tensor("labels"),
            sample_ids = tensor("sample_ids"),
            k = is_next("k") and tensor("k") or nil,
            vocab_valid = valid,
        }
    end
    return list
end

local function elements(t)
    local n = 1
    for _, d in ipairs(t.shape) do
        n = n * d
    end
    return n
end

local function same_doubles(word, data, n)
    same(word, data, n * 8)
end

local function gradient(loss, micro, batch)
    local grad = cadft.zeros("f32", batch.logits.shape)
    loss:grad(micro, batch, grad)
    same("grad", grad.data, elements(grad) * 4)
    same_doubles("l", loss:rows(micro, "nll"))
    same_doubles("k", loss:rows(micro, "k"))
    same_doubles("scale", loss:rows(micro, "scale"))
end

local function ending(loss, report)
    same("loss", ffi.new("double[1]", report.loss), 8)
    same("mean_w", ffi.new("double[1]", report.mean_w), 8)
end

local function samples(loss)
    same_doubles("c", loss:samples("c"))
    same_doubles("w", loss:samples("w"))
end

local function in_phases(loss, list, n_samples)
    local each, micro = loss:get("scope") ~= "exact", {}
    loss:begin(n_samples)
    for i, batch in ipairs(list) do
        micro[i] = loss:observe(batch)
        if each then
            loss:weigh()
            gradient(loss, micro[i], batch)
        end
    end
    if not each then
        loss:weigh()
        for i, batch in ipairs(list) do
            gradient(loss, micro[i], batch)
        end
    end
    samples(loss)
    ending(loss, loss:finish())
end

local function in_one_call(loss, batch, n_samples)
    local grad = cadft.zeros("f32", batch.logits.shape)
    local report = loss:compute(batch, n_samples, grad)
    same("grad", grad.data, elements(grad) * 4)
    at = at + 3
    samples(loss)
    ending(loss, report)
end

local function with_options(context, options)
    local loss = context:loss()
    for _, option in ipairs(options) do
        loss:set(option[1], option[2])
    end
    return loss
end

-- Returns 1 if the step failed, as it should.
local function step(context, loss, options, is_first, counts)
    local n_samples = tonumber(take("step"))
    local list = batches()
    local results = at
    local good, thrown = pcall(in_phases, loss, list, n_samples)
    if not good then
        assert(getmetatable(thrown) == cadft.Error, tostring(thrown))
        counts.failures = counts.failures + 1
        loss:cancel()
    end
    local wanted = good and "0 " or thrown.status .. " " .. thrown.message
    local status = take("status")
    assert(status == wanted, name .. ": expected " .. status .. ", got " .. wanted)
    if good and is_first and #list == 1 and loss:get("scope") == "exact" then
        local behind, whole = at, with_options(context, options)
        at = results
        in_one_call(whole, list[1], n_samples)
        whole:close()
        at = behind
        counts.computed = counts.computed + 1
    end
end

function golden.run(file)
    lines, at = {}, 1
    for line in io.lines(file) do
        lines[#lines + 1] = line
    end
    local context = cadft.context()
    local counts = {cases = 0, failures = 0, computed = 0}
    while at <= #lines do
        name = take("case")
        local options = {}
        while is_next("option") do
            options[#options + 1] = {take("option"):match("^(%S+) (.*)$")}
        end
        local loss, is_first = with_options(context, options), true
        while is_next("step") do
            step(context, loss, options, is_first, counts)
            is_first = false
        end
        loss:close()
        counts.cases = counts.cases + 1
    end
    assert(counts.cases >= 400 and counts.failures > 0 and counts.computed > 0)
    print(("%d golden cases, %d failing steps, %d steps in one call too"):format(counts.cases,
        counts.failures, counts.computed))
end

return golden
