package lua

// aliases are names for sets of types that many functions take.
func aliases() []Class {
	return []Class{
		{Name: "span", Shown: "a time span", Doc: `Seconds, or a text such as "5m", "1h30m" or "7d".`, Alias: "number|string"},
		{Name: "key", Shown: "a key", Doc: "A text or number, or a list of them, whose parts are kept apart: all policies share one store, so begin keys with a name of your own.", Alias: "string|number|(string|number)[]"},
		{Name: "plain", Shown: "a plain value", Doc: "A string, number, boolean, or table of them; an address or ip becomes its text.", Alias: "string|number|boolean|table|nil"},
		{Name: "someaddress", Shown: "an address", Doc: "An address, a recipient, or the text of one.", Alias: "address|rcpt|string"},
		{Name: "someip", Shown: "an ip", Doc: "An ip, or the text of one.", Alias: "ip|string"},
		{Name: "someregex", Shown: "a regex", Doc: "A compiled expression, or the text of one.", Alias: "regex|string"},
	}
}

// languageSections are what belongs to the language and to the policy itself.
func languageSections() []section {
	return []section{policySection(), decisionSection(), kindSection(), settingMembers(), basicSection(), textSection(), tableSection(), mathSection(), debugSection()}
}

const exampleFile = `local p = policy {
  about    = "Refuses a sender.",
  settings = { sender = address "a@example.org" : about "who is refused" },
}

function p.rcpt(tx, rcpt)
  if tx.sender == p.sender then return reject("5.7.1", "Not from you") end --> reject 5.7.1 Not from you
end

return p`

func policySection() section {
	return section{doc: "the policy", items: []member{
		def("policy", "(declaration: table): table",
			"Declares the policy, once, at the top of the file. Keys: about, settings, on_failure, immune, timeout, deny_at, every. The table it gives holds the settings, and takes the functions of stages.", exampleFile),
		def("require", "(module: string): any", "Loads a module that stands beside the policy or in scripts/lib, once, at the top of the file.",
			"local words = require \"words\"\nlocal p = policy {}\n\nfunction p.rcpt(tx, rcpt)\n  return reject(words.text) --> reject No casino here\nend\n\nreturn p"),
		def("now", "(): number", "The time as seconds since 1970, with fractions.", "now() --> 1795348800"),
		def("print", "(...: any)", "log.info of its arguments.", `print("sender", tx.sender)`),
	}}
}

func decisionSection() section {
	return section{doc: "decisions", items: []member{
		def("pass", "(): decision", "The next policy speaks, as where nothing is returned.", "pass() --> pass"),
		def("accept", "(how?: table): decision", "The stage succeeds and no further policy is asked. At rcpt for a foreign domain it relays. At auth accept{ user = … } names who logged in; at command accept{ text = …, code = … } is the answer.", "accept() --> accept"),
		def("reject", "(code?: number|string|table, ...: any): decision",
			"A 5xx reply. Each optional, in this order: a code, a status, a text with its format arguments. The table form takes text, code, enhanced, disconnect.",
			"reject(554, \"5.7.1\", \"%s is not welcome\", tx.sender) --> reject 554 5.7.1 a@example.org is not welcome\nreject{ text = \"Go away\", disconnect = true } --> reject Go away"),
		def("defer", "(code?: number|string|table, ...: any): decision",
			"A 4xx reply; its arguments are those of reject, and the table form takes after at stages deferred and bounced. %D prints seconds as 5m or 1h30m.",
			"defer(\"4.7.1\", \"Try again in %D\", 300) --> defer 4.7.1 Try again in 5m"),
		def("discard", "(why?: string, ...: any): decision", "250 to the client, and the message (at rcpt: that recipient) is dropped.", "discard(\"spam trap\") --> discard spam trap"),
		def("quarantine", "(why?: string, ...: any): decision", "250 to the client, and the message is kept aside until an operator releases it.", "quarantine(\"%d points\", 9) --> quarantine 9 points"),
		def("hold", "(why?: string, ...: any): decision", "The message stays in the queue and is not tried until an operator releases it.", "hold(\"check by hand\") --> hold check by hand"),
		def("disconnect", "(text?: string, ...: any): decision", "421, and the connection is closed.", "disconnect(\"Bye\") --> disconnect Bye"),
	}}
}

func kindSection() section {
	return section{doc: "types of settings", items: []member{
		def("integer", "setting", "A whole number.", "integer(24) : about \"prefix length\" --> a setting"),
		def("number", "setting", "A number.", "number(1.5) --> a setting"),
		def("boolean", "setting", "true or false.", "boolean(true) --> a setting"),
		def("duration", "setting", "A time span such as \"5m\"; seconds in the script.", "duration \"5m\" --> a setting"),
		def("size", "setting", "A size such as \"50MiB\"; bytes in the script.", "size \"50MiB\" --> a setting"),
		def("address", "setting", "A mail address.", "address \"user@example.net\" --> a setting"),
		def("cidrs", "setting", "A list of networks with :match(ip).", "cidrs { \"192.0.2.0/24\" } --> a setting"),
		def("domains", "setting", "A list of domains with :match(domain); *.example.org matches what is below.", "domains { \"example.net\", \"*.example.org\" } --> a setting"),
		def("regexp", "setting", "An RE2 expression; a regex in the script, nil for \"\".", "regexp \"^casino\" --> a setting"),
		def("file", "setting", "A path, relative to the configuration; { path, text, lines } in the script, nil for \"\".", "file \"\" --> a setting"),
		def("secret", "setting", "A text that is never shown.", "secret \"\" --> a setting"),
		def("enum", "(choices: string[]): setting", "One of some texts.", "enum { \"reject\", \"defer\" } \"reject\" --> a setting"),
		def("list", "(of: setting): setting", "A list.", "list(string) { \"a\", \"b\" } --> a setting"),
		def("map", "(of: setting): setting", "A table of named values.", "map(string) { a = \"b\" } --> a setting"),
	}}
}

func settingMembers() section {
	return section{name: "setting", class: "setting", doc: "The type of a setting. Called with a default it becomes a setting that need not be given.", items: []member{
		def(":about", "(text: string): setting", "Says what the setting is for.", "duration \"5m\" : about \"how long a new triplet waits\" --> a setting"),
		def(":range", "(low: number|string, high?: number|string): setting", "Bounds an integer, a number or a duration, both ends included; without the second there is none above.", "integer(24) : range(0, 32) : about \"prefix length\" --> a setting"),
	}}
}

func basicSection() section {
	return section{doc: "basic functions", items: []member{
		def("_G", "table", "The globals. Read-only after load.", "_G.now == now --> true"),
		def("_VERSION", "string", "The version of the language.", "_VERSION --> \"Lua 5.1\""),
		def("assert", "(value: any, message?: string, ...: any): any", "Raises an error where the value is nil or false, and else gives its arguments.", "assert(1 == 1) --> true"),
		def("error", "(value: any, level?: integer)", "Raises an error. A text gets the place of the call in front; level 0 leaves it out, 2 is the place of the caller.", "pcall(error, \"x\", 0) --> false, \"x\""),
		def("getmetatable", "(value: any): any", "The metatable of a table, or its field __metatable.", "getmetatable({}) --> nil"),
		def("ipairs", "(list: table): function, table, integer", "Walks a list from 1 to the first nil.", "for i, word in ipairs { \"a\", \"b\" } do assert(word) end"),
		def("next", "(table: table, key?: any): any, any", "The pair behind a key, the first without one.", "next({}) --> nil"),
		def("pairs", "(table: table|notes): function, table, nil", "Walks all pairs of a table, or of notes.", "for name, value in pairs { a = 1 } do assert(value == 1) end"),
		def("pcall", "(f: function, ...: any): boolean, ...", "Calls f, and gives true and its results, or false and the error. A limit that is reached is not caught.", "pcall(function() return 1 end) --> true, 1"),
		def("rawequal", "(a: any, b: any): boolean", "Compares without metatables.", "rawequal(1, 1) --> true"),
		def("select", "(n: integer|\"#\", ...: any): ...", "The arguments from the n-th on, or with \"#\" their number.", "select(2, \"a\", \"b\") --> \"b\"\nselect(\"#\", nil, nil) --> 2"),
		def("setmetatable", "(table: table, meta: table?): table", "Gives a table a metatable.", "setmetatable({}, { __index = { x = 1 } }).x --> 1"),
		def("tonumber", "(value: any, radix?: integer): number?", "The number that a text stands for, or nil.", "tonumber(\"12\") --> 12\ntonumber(\"ff\", 16) --> 255"),
		def("tostring", "(value: any): string", "The text of a value.", "tostring(tx.sender) --> \"a@example.org\""),
		def("type", "(value: any): string", "nil, boolean, number, string, table, function or userdata.", "type(tx.sender) --> \"userdata\""),
		def("unpack", "(list: table, from?: integer, to?: integer): ...", "The items of a list, at most 4096.", "unpack { 1, 2 } --> 1, 2"),
		def("xpcall", "(f: function, handler: function): boolean, ...", "As pcall, but the error goes through the handler.", "xpcall(function() error(\"x\", 0) end, string.upper) --> false, \"X\""),
	}}
}

func textSection() section {
	return section{name: "string", class: "stringlib", doc: "Texts. Every function is a method of texts too: (\"x\"):rep(3). Letters are those of ASCII. string is the type of a setting as well.", items: []member{
		def("about", "(self: any, text: string): setting", "Says what a setting of type string is for.", "string \"x\" : about \"a text\" --> a setting"),
		def("byte", "(s: string, from?: integer, to?: integer): ...", "The codes of bytes, the first by default.", "(\"A\"):byte() --> 65"),
		def("char", "(...: integer): string", "The text of bytes.", "string.char(72, 105) --> \"Hi\""),
		def("find", "(s: string, pattern: string, from?: integer, plain?: boolean): integer?, ...", "Where a pattern first matches: first and last position, and the captures.", "(\"hello\"):find(\"l+\") --> 3, 4\n(\"a.b\"):find(\".\", 1, true) --> 2, 2"),
		def("format", "(format: string, ...: any): string", "As in C. %s takes anything that has a text, %q quotes, %D prints seconds as 5m.", "(\"%s waits %D\"):format(tx.sender, 90) --> \"a@example.org waits 1m30s\""),
		def("gmatch", "(s: string, pattern: string): function", "Walks all matches.", "for word in (\"a bc\"):gmatch(\"%a+\") do assert(#word > 0) end"),
		def("gsub", "(s: string, pattern: string, with: string|table|function, most?: integer): string, integer", "Replaces matches: %1 is a capture; a table or function gives the text. The second value is how many there were.", "(\"a-b-c\"):gsub(\"-\", \"+\") --> \"a+b+c\", 2"),
		def("len", "(s: string): integer", "The number of bytes.", "(\"Grüße\"):len() --> 7"),
		def("lower", "(s: string): string", "In lower case.", "(\"ABC\"):lower() --> \"abc\""),
		def("match", "(s: string, pattern: string, from?: integer): ...", "The captures of the first match, or all of it; nil where there is none.", "(\"order 4711\"):match(\"%d+\") --> \"4711\""),
		def("rep", "(s: string, n: integer): string", "The text n times.", "(\"ab\"):rep(3) --> \"ababab\""),
		def("reverse", "(s: string): string", "The bytes from the last to the first.", "(\"abc\"):reverse() --> \"cba\""),
		def("sub", "(s: string, from: integer, to?: integer): string", "A part; positions count from 1, negative ones from the end.", "(\"hello\"):sub(2, -2) --> \"ell\""),
		def("upper", "(s: string): string", "In upper case.", "(\"abc\"):upper() --> \"ABC\""),
	}}
}

func tableSection() section {
	return section{name: "table", class: "tablelib", doc: "Lists.", items: []member{
		def("concat", "(list: table, between?: string, from?: integer, to?: integer): string", "Joins the items.", "table.concat({ \"a\", \"b\" }, \", \") --> \"a, b\""),
		def("getn", "(list: table): integer", "The length, as #list.", "table.getn { 1, 2 } --> 2"),
		def("insert", "(list: table, at: any, value?: any)", "Puts a value at the end, or at a position.", "local t = { 1, 3 } table.insert(t, 2, 2)\nt --> { 1, 2, 3 }"),
		def("maxn", "(list: table): integer", "The largest index.", "table.maxn { 1, 2 } --> 2"),
		def("remove", "(list: table, at?: integer): any", "Takes the last member away, or that at a position.", "table.remove { \"a\", \"b\" } --> \"b\""),
		def("sort", "(list: table, less?: function)", "Sorts the list itself.", "local t = { 3, 1, 2 } table.sort(t, function(a, b) return a > b end)\nt --> { 3, 2, 1 }"),
	}}
}

func mathSection() section {
	one := func(name, doc, example string) member { return def(name, "(x: number): number", doc, example) }
	return section{name: "math", class: "mathlib", doc: "Numbers.", items: []member{
		def("pi", "number", "3.14159…", "math.floor(math.pi * 100) --> 314"),
		def("huge", "number", "Infinity.", "math.huge > 1e308 --> true"),
		one("abs", "The value without its sign.", "math.abs(-2) --> 2"),
		one("acos", "Arc cosine.", "math.acos(1) --> 0"),
		one("asin", "Arc sine.", "math.asin(0) --> 0"),
		one("atan", "Arc tangent.", "math.atan(0) --> 0"),
		def("atan2", "(y: number, x: number): number", "The angle of a point.", "math.atan2(0, 1) --> 0"),
		one("ceil", "Rounded up.", "math.ceil(1.2) --> 2"),
		one("cos", "Cosine.", "math.cos(0) --> 1"),
		one("cosh", "Hyperbolic cosine.", "math.cosh(0) --> 1"),
		one("deg", "Degrees of radians.", "math.deg(math.pi) --> 180"),
		one("exp", "e to the power of x.", "math.exp(0) --> 1"),
		one("floor", "Rounded down.", "math.floor(1.8) --> 1"),
		def("fmod", "(x: number, y: number): number", "The rest of a division, with the sign of x.", "math.fmod(-7, 3) --> -1"),
		def("frexp", "(x: number): number, integer", "Mantissa and exponent.", "math.frexp(8) --> 0.5, 4"),
		def("ldexp", "(m: number, e: integer): number", "m times 2 to the power of e.", "math.ldexp(0.5, 4) --> 8"),
		one("log", "Natural logarithm.", "math.log(1) --> 0"),
		one("log10", "Decimal logarithm.", "math.log10(1000) --> 3"),
		def("max", "(x: number, ...: number): number", "The largest.", "math.max(1, 3, 2) --> 3"),
		def("min", "(x: number, ...: number): number", "The smallest.", "math.min(2, 1, 3) --> 1"),
		def("mod", "(x: number, y: number): number", "The rest of a division, as %.", "math.mod(7, 3) --> 1"),
		def("modf", "(x: number): number, number", "The whole and the broken part.", "math.modf(1.5) --> 1, 0.5"),
		def("pow", "(x: number, y: number): number", "x to the power of y, as ^.", "math.pow(2, 10) --> 1024"),
		one("rad", "Radians of degrees.", "math.rad(0) --> 0"),
		def("random", "(from?: integer, to?: integer): number", "A random number: from 0 to 1, from 1 to the one given, or between two. Not for secrets.", "math.random(6) <= 6 --> true"),
		one("sin", "Sine.", "math.sin(0) --> 0"),
		one("sinh", "Hyperbolic sine.", "math.sinh(0) --> 0"),
		one("sqrt", "Square root.", "math.sqrt(9) --> 3"),
		one("tan", "Tangent.", "math.tan(0) --> 0"),
		one("tanh", "Hyperbolic tangent.", "math.tanh(0) --> 0"),
	}}
}

func debugSection() section {
	return section{name: "debug", class: "debuglib", doc: "For finding mistakes.", items: []member{
		def("traceback", "(text?: string): string", "The text and the calls that are under way.", "debug.traceback(\"here\"):sub(1, 4) --> \"here\""),
	}}
}
