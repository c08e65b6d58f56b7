-- SPDX-License-Identifier: Apache-2.0
-- What the tests share.
local cadft = require("cadft")

local check = {}

-- fn(...) throws the library's error with this status; returns it.
function check.refused(status, fn, ...)
    local good, thrown = pcall(fn, ...)
    assert(not good, "nothing was thrown")
    assert(getmetatable(thrown) == cadft.Error, tostring(thrown))
    assert(thrown.status == status, tostring(thrown))
    return thrown
end

-- fn(...) throws a text that has `part` in it.
function check.fails(part, fn, ...)
    local good, thrown = pcall(fn, ...)
    assert(not good, "nothing was thrown")
    assert(type(thrown) == "string" and thrown:find(part, 1, true), tostring(thrown))
end

return check
