-- SPDX-License-Identifier: Apache-2.0
-- Lua: coroutines, metatables, string matching, garbage, files, errors.
local folder = arg[1] or "/tmp"
local function squares(n)
  return coroutine.wrap(function() for i = 1, n do coroutine.yield(i * i) end end)
end
local sum = 0
for square in squares(1000) do sum = sum + square end
print("coroutines", sum)
local vector = {}
vector.__index = vector
vector.__add = function(a, b) return setmetatable({x = a.x + b.x}, vector) end
print("metatables", (setmetatable({x = 3}, vector) + setmetatable({x = 4}, vector)).x)
local words = {}
for word in ("to be or not to be"):gmatch("%a+") do words[word] = (words[word] or 0) + 1 end
local names = {}
for word, count in pairs(words) do names[#names + 1] = word .. count end
table.sort(names)
print(table.concat(names, " "), ("%5.2f|%x|%q"):format(math.pi, 255, "a\nb"))
for i = 1, 200000 do local garbage = {i, tostring(i)} end
collectgarbage()
print("garbage", collectgarbage("count") < 4096, 7 // 2, 7 / 2, 1 << 40, math.type(2.0))
local name = folder .. "/from_lua.txt"
local file = assert(io.open(name, "w"))
for i = 1, 200 do file:write(i, " ", string.format("%.4f", math.sqrt(i)), "\n") end
file:close()
local length = 0
for line in io.lines(name) do length = length + #line end
print("file", length, os.rename(name, folder .. "/renamed.txt"), io.open("/none"))
print(pcall(error, {code = 5}) == false, select(2, pcall(function() return nil + 1 end)):match("arithmetic"))
print(os.date("!%Y-%m-%d", 86400 * 366), #io.read("a"))
local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end
print(deep(10000), pcall(function() local function f() return 1 + f() end return f() end) == false)
os.exit(15)
