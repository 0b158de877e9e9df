-- A morning's work for Lua in a Keep: tables, patterns, closures, coroutines, errors, files.
print(_VERSION, #arg, arg[1], os.getenv("WHO"))

local text = io.read("a")
local counts, names = {}, {}
for word in text:lower():gmatch("%a+") do
  if not counts[word] then names[#names + 1] = word end
  counts[word] = (counts[word] or 0) + 1
end
table.sort(names, function(a, b) return counts[a] > counts[b] or counts[a] == counts[b] and a < b end)
print("words:", names[1], counts[names[1]], #names)
print("gsub:", (("hello world"):gsub("(%w+)", function(w) return w:sub(1, 1):upper() .. w:sub(2) end)))
print("format:", ("%5.2f|%-6s|%x|%q"):format(math.pi, "ab", 255, "a\nb"))
print("integers:", math.maxinteger, math.maxinteger + 1 == math.mininteger, 7 // 2, -7 // 2, 7 % -3, 1 << 62)
print("utf8:", utf8.len("grüße"), utf8.char(8364))
print("pack:", string.unpack("<i4", string.pack("<i4", -2)))

local function primes(limit)
  return coroutine.wrap(function()
    local composite = {}
    for n = 2, limit do
      if not composite[n] then
        coroutine.yield(n)
        for m = n * n, limit, n do composite[m] = true end
      end
    end
  end)
end
local sum = 0
for p in primes(10000) do sum = sum + p end
print("primes:", sum)

print("pcall:", pcall(error, { code = 7 }) == false, select(2, pcall(error, "plain", 0)))
print("nested:", pcall(pcall, error, "inner"))
print("runtime:", (select(2, pcall(function() local t = nil; return t.x end)):gsub("^.-:%d+: ", "")))
local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end
print("deep:", deep(10000), pcall(function() local function f() return 1 + f() end return f() end) == false)
local closed = setmetatable({}, { __gc = function() closed_count = (closed_count or 0) + 1 end })
closed = nil
collectgarbage()
print("collected:", closed_count)

local home = arg[2]
local file = assert(io.open(home .. "/numbers.txt", "w"))
for i = 1, 1000 do file:write(i, i % 10 == 0 and "\n" or " ") end
file:close()
local lines, total = 0, 0
for line in io.lines(home .. "/numbers.txt") do
  lines = lines + 1
  for n in line:gmatch("%d+") do total = total + tonumber(n) end
end
print("file:", lines, total)
file = assert(io.open(home .. "/numbers.txt", "r+"))
print("seek:", file:seek("end"), file:seek("set", 2), file:read("n"), file:seek("cur"))
file:close()
print("rename:", os.rename(home .. "/numbers.txt", home .. "/moved.txt"))
print("missing:", select(2, io.open(home .. "/numbers.txt")) ~= nil)
print("outside:", io.open("/etc/passwd") == nil, io.open(home .. "/../../etc/passwd") == nil)
print("remove:", os.remove(home .. "/moved.txt"))
print("time:", os.time({ year = 2001, month = 9, day = 9, hour = 12 }) // 86400, os.time() > 1700000000)
os.exit(3)
