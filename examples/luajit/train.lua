-- SPDX-License-Identifier: Apache-2.0
-- Fine-tunes a small random transformer on three sequences with the library's own model, loss
-- and optimizer, and lets it continue the first one.
local cadft = require("cadft")

local CONFIG = [[
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32,
 "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
 "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
 "tie_word_embeddings": true}]]

-- The sequences follow each other; each row predicts the next token of its sequence.
local tokens = cadft.tensor{1, 2, 3, 4, 5, 6, 1, 3, 5, 7, 9, 1, 9, 4, 20, 6, 30}
local starts = cadft.tensor{0, 6, 11, 17}

local train = {}

function train.model(context)
    return context:model():init(CONFIG, 1)
end

-- One step; returns the report of the loss.
function train.step(model, loss, optimizer)
    model:zero_grad()
    local logits = model:forward{tokens = tokens, cu_seqlens = starts}
    local batch = {
        logits = logits,
        labels = tokens,
        sample_ids = cadft.sample_ids_cu_seqlens(starts, 17),
    }
    -- The gradient goes over the logits, in the model's memory.
    local report = loss:compute(batch, 3, logits)
    model:backward(logits)
    optimizer:step()
    return report
end

function train.main()
    local context = cadft.context()
    local model = train.model(context)
    local loss = context:loss{label_offset = 1, objective = "dft"}
    local optimizer = context:optimizer{lr = 3e-3}
    optimizer:add_model(model)
    for step = 0, 59 do
        local report = train.step(model, loss, optimizer)
        if step % 10 == 0 then
            print(("step %2d  nll %.4f"):format(step, report.nll))
        end
    end
    local answers = model:generate{tokens = cadft.tensor{1, 2}, max_new_tokens = 4}
    print("1 2 goes on with " .. table.concat(answers[1], " "))
end

-- Run as a program, or loaded by the tests.
if ... ~= "train" then
    train.main()
end
return train
