-- from_phish: authors that look like a brand, or like people of ours, and are not.
--
-- At HEADERS the name and the address in From are compared with the brands: letters that
-- look alike are the same (0 and o, 1, l and i, rn and m, Cyrillic and Greek letters that
-- look Latin, accents), and what is no letter or digit does not count. Where one of a
-- brand's words is in the name, or in the address, and the domain is none of the brand's,
-- that is a finding. `people` are names of ours, such as those of managers: a stranger
-- who shows one of them is another. Brands of five letters and less count as whole words
-- only. Findings give points, or more; the result `from_phish` has `found` and `as`.
--
-- Settings:
--   brands  words that a brand shows, and the domains that it sends from
--   people  names of ours that no stranger has (none)
--   exempt  domains of authors that are not looked at, for one of people with such names
--   action  what follows: "score", "defer" or "reject" (score)
--   points  where the action is "score" (4)
--
-- Example:
--   [[policy]]
--   use    = "from_phish"
--   people = ["Jane Doe"]
--   brands = { "Example Bank" = ["bank.example"] }

local from_phish = policy {
  about    = "Finds authors that look like a brand, or like people of ours, and are not.",
  immune   = { "relaying", "authenticated" },
  settings = {
    brands = map(list(string)) {
      ["Amazon"]    = { "amazon.com", "amazon.de", "amazon.co.uk", "amazon.fr", "amazon.it", "amazon.es", "amazonses.com", "amazon.co.jp", "amazon.ca",
        "amazon.nl", "amazon.pl", "amazon.se", "amazon.ie", "amazon.in", "amazon.com.au", "amazon.com.be", "amazon.com.br", "amazon.com.mx", "amazon.com.tr", "amazon.ae", "amazon.sa", "amazon.sg", "amazon.eg", "amazon.jobs" },
      ["Apple ID"]  = { "apple.com", "icloud.com" },
      ["DocuSign"]  = { "docusign.com", "docusign.net" },
      ["Facebook"]  = { "facebook.com", "facebookmail.com", "fb.com" },
      ["LinkedIn"]  = { "linkedin.com" },
      ["Microsoft"] = { "microsoft.com", "microsoftonline.com", "office.com", "live.com", "outlook.com", "sharepointonline.com", "office365.com", "azure.com", "xbox.com", "mail.microsoft" },
      ["Netflix"]   = { "netflix.com" },
      ["PayPal"]    = { "paypal.com", "paypal.de", "paypal.co.uk", "paypal.at", "paypal.be", "paypal.ca", "paypal.ch", "paypal.com.au", "paypal.dk", "paypal.es", "paypal.fr", "paypal.ie", "paypal.it", "paypal.nl", "paypal.pl", "paypal.pt", "paypal.se" },
    } : about "words that a brand shows, and the domains that it sends from",
    people = list(string) {} : about "names of ours that no stranger has",
    exempt = domains {} : about "domains of authors that are not looked at",
    action = enum { "score", "defer", "reject" } "score" : about "what follows",
    points = number (4) : about "where the action is score",
  },
}

-- Letters that look like another, in UTF-8.
local alike = {
  ["а"] = "a", ["е"] = "e", ["о"] = "o", ["р"] = "p", ["с"] = "c", ["х"] = "x", ["у"] = "y", ["і"] = "i", ["ѕ"] = "s", ["ј"] = "j", ["ԁ"] = "d", ["ո"] = "n", ["к"] = "k", ["м"] = "m", ["т"] = "t",
  ["А"] = "a", ["В"] = "b", ["Е"] = "e", ["К"] = "k", ["М"] = "m", ["Н"] = "h", ["О"] = "o", ["Р"] = "p", ["С"] = "c", ["Т"] = "t", ["Х"] = "x", ["Ѕ"] = "s", ["Ι"] = "i", ["Α"] = "a", ["Ε"] = "e", ["Ο"] = "o", ["Ρ"] = "p", ["Τ"] = "t",
  ["α"] = "a", ["ε"] = "e", ["ο"] = "o", ["ρ"] = "p", ["ι"] = "i", ["ν"] = "v", ["ı"] = "i", ["ł"] = "l", ["ø"] = "o",
  ["à"] = "a", ["á"] = "a", ["â"] = "a", ["ã"] = "a", ["ä"] = "a", ["å"] = "a", ["ā"] = "a", ["ç"] = "c", ["ć"] = "c", ["è"] = "e", ["é"] = "e", ["ê"] = "e", ["ë"] = "e", ["ē"] = "e", ["ì"] = "i", ["í"] = "i", ["î"] = "i", ["ï"] = "i", ["ñ"] = "n", ["ò"] = "o", ["ó"] = "o", ["ô"] = "o", ["õ"] = "o", ["ö"] = "o", ["ś"] = "s", ["š"] = "s", ["ù"] = "u", ["ú"] = "u", ["û"] = "u", ["ü"] = "u", ["ý"] = "y", ["ÿ"] = "y", ["ž"] = "z",
}

-- plain writes a text with one sign for all that look alike, words apart.
local function plain(text)
  local latin = text:gsub("[\194-\244][\128-\191]+", function(letter) return alike[letter] or " " end):lower()
  return (latin:gsub("rn", "m"):gsub("vv", "w"):gsub("[1l|!]", "i"):gsub("0", "o"):gsub("5", "s"):gsub("3", "e"):gsub("[^%w]+", " "))
end

local function compact(text) return (text:gsub(" ", "")) end

-- look is what a reader sees: words apart, and without what is between them.
local function look(text)
  local looks = plain(text)
  return { words = " " .. looks .. " ", letters = compact(looks) }
end

-- shows tells whether there is a brand's word in it: a short one as a word of its own.
local function shows(seen, brand)
  if #brand.letters <= 5 then return seen.words:find(" " .. brand.word .. " ", 1, true) ~= nil end
  return seen.letters:find(brand.letters, 1, true) ~= nil
end

local brands = {}
for name, list in pairs(from_phish.brands) do
  local domains = {}
  for _, domain in ipairs(list) do domains[addr.organization(domain) or domain:lower()] = true end
  local word = plain(name):match("^%s*(.-)%s*$")
  table.insert(brands, { name = name, word = word, letters = compact(word), domains = domains })
end
table.sort(brands, function(a, b) return a.name < b.name end)

local people = {}
for _, name in ipairs(from_phish.people) do table.insert(people, { name = name, word = compact(plain(name)) }) end

-- judge gives what an author pretends to be.
local function judge(one)
  local domain = one.address.domain
  local organization = addr.organization(domain) or domain
  if from_phish.exempt:match(domain) or from_phish.exempt:match(organization) then return nil end
  local name, address = look(one.name), look(one.address.user .. " " .. organization)
  for _, brand in ipairs(brands) do
    if not brand.domains[organization] and (shows(name, brand) or shows(address, brand)) then return "brand", brand.name end
  end
  for _, person in ipairs(people) do
    if name.letters == person.word and not addr.ours(domain) then return "person", person.name end
  end
end

function from_phish.headers(tx)
  for _, one in ipairs(addr.list(tx.headers:raw("From") or "") or {}) do
    local found, as = judge(one)
    if found then
      tx:result("from_phish", { found = found, as = as })
      if from_phish.action == "score" then
        tx:score("from_phish", from_phish.points, as)
        return
      end
      local text = ("The author looks like %s, and %s is not theirs"):format(as, one.address.domain)
      if from_phish.action == "defer" then return defer("4.7.1", "%s", text) end
      return reject("5.7.1", "%s", text)
    end
  end
end

return from_phish
