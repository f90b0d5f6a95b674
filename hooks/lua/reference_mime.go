package lua

import "github.com/postern-mta/postern/hooks"

func mimeSection() section {
	return section{
		name: "tx.mime", class: "mime", doc: "The parts of the message, found on first use in one bounded pass, as it came or as the policies before, and the handler itself, left it. Nested messages are opened, those in base64 and quoted-printable too; a file that is uuencoded in a text is a part behind that. Content stays where it is until it is asked for.",
		at: hooks.Message,
		items: []member{
			def("root", "part", "The message itself as a part.", "tx.mime.root.type --> \"text/plain\""),
			def("count", "integer", "Number of parts, multiparts included.", "tx.mime.count --> 1"),
			def("truncated", "string?", "The bound that was met, beyond which nothing was looked at: \"depth\" (32), \"parts\" (1000), \"header\" (64 KiB a part, 1 MiB in all) or \"size\" (8 MiB of encoded content that was looked into); nil is the rule.", "if tx.mime.truncated then return reject(\"5.6.0\", \"Too complex\") end"),
			def("faulty", "boolean", "Whether the structure is broken or ambiguous anywhere, so that readers may differ about what it holds.", "tx.mime.faulty --> false"),
			def(":parts", "(): function", "Walks all parts in their order, a multipart before what it holds.", "for part in tx.mime:parts() do assert(part.type == \"text/plain\") end"),
			def(":attachments", "(): part[]", "The parts that a reader offers as files: said to be attachments, with a file name, or no text.", "#tx.mime:attachments() --> 0"),
			def(":urls", "(): table[]?, boolean|error?", "The addresses in text parts, decoded, each once: a list of { url, host, part, defanged }, host in A-labels; and whether there are more than the 1000 it holds.", "for _, u in ipairs(tx.mime:urls()) do assert(u.host ~= \"evil.example\") end"),
			def(":text", "(max?: integer): string?, boolean|error?", "What a reader sees of all text parts as one text of at most max bytes (1 MiB; up to 4 MiB), and whether it was cut.", "tx.mime:text():find(\"order\", 1, true) --> 14, 18"),
		},
	}
}

func partSection() section {
	return section{
		name: "part", class: "part", doc: "A part of the message. It belongs to the call that found it.",
		at: hooks.Message,
		items: []member{
			def("type", "string", "The media type in lower case.", "tx.mime.root.type --> \"text/plain\""),
			def("name", "string?", "The likeliest file name, decoded.", "tx.mime.root.name --> nil"),
			def("names", "string[]", "Every file name that a reader may show.", "tx.mime.root.names --> {}"),
			def("extension", "string?", "What stands behind the name's last dot, in lower case; trailing dots, blanks and invisible characters don't count.", "if tx.mime.root.extension == \"exe\" then return reject(\"5.7.1\", \"No programs\") end"),
			def("size", "integer", "Bytes of the decoded content.", "tx.mime.root.size --> 25"),
			def("attachment", "boolean", "Whether a reader offers it as a file.", "tx.mime.root.attachment --> false"),
			def("multipart", "boolean", "Whether it is a multipart.", "tx.mime.root.multipart --> false"),
			def("disposition", "string?", "\"attachment\", \"inline\" or another; nil where none is said.", "tx.mime.root.disposition --> nil"),
			def("charset", "string?", "The label of its charset in lower case.", "tx.mime.root.charset --> nil"),
			def("encoding", "string?", "Its transfer encoding in lower case; \"x-uuencode\" of a uuencoded file.", "tx.mime.root.encoding --> nil"),
			def("params", "table<string, string>", "The parameters of Content-Type, decoded.", "tx.mime.root.params.boundary --> nil"),
			def("id", "string?", "Its Content-ID without brackets.", "tx.mime.root.id --> nil"),
			def("description", "string?", "Its Content-Description, decoded.", "tx.mime.root.description --> nil"),
			def("path", "string", "Its place: \"1\" is the message, \"1.2\" its second part.", "tx.mime.root.path --> \"1\""),
			def("depth", "integer", "How deep it is nested.", "tx.mime.root.depth --> 0"),
			def("fault", "string?", "The first thing that is wrong with it.", "tx.mime.root.fault --> nil"),
			def(":text", "(max?: integer): string?, boolean|error?", "The content of a text part as UTF-8, HTML as it is: at most max bytes (1 MiB; up to 4 MiB), and whether it was cut.", "tx.mime.root:text(5) --> \"Hello\", true"),
			def(":plain", "(max?: integer): string?, boolean|error?", "The text that a reader sees: HTML without its tags.", "tx.mime.root:plain(11) --> \"Hello world\", true"),
			def(":bytes", "(max?: integer): string?, boolean|error?", "The decoded content as it is.", "tx.mime.root:bytes(5) --> \"Hello\", true"),
			def(":hash", "(kind?: string): string?, error?", "The digest of the decoded content in hexadecimal: sha256, sha1 or md5.", "#tx.mime.root:hash(\"sha256\") --> 64"),
			def(":header", "(name: string): string?, error?", "The decoded text of the first field of that name in the part's own header section, or nil.", "tx.mime.root:header(\"X-Two\") --> \"1\""),
			def(":archive", "(options?: table): archive?, error?", "What is in a part that is an archive by its first bytes, found without unpacking it to anywhere: zip, tar, gzip, bzip2, and archives in archives; of RAR and 7z the names of the files. Options bound it: depth (5), entries (1000), size in bytes that are unpacked to look inside (64 MiB), ratio of unpacked to packed bytes (200). The error's kind is none of what is no archive.", "tx.mime.root:archive() --> nil, { kind = \"none\" }\nlocal name = \"Content-Type: application/zip\\r\\nContent-Transfer-Encoding: base64\\r\\n\\r\\n\"\nmime.parse(name .. \"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==\\r\\n\").root:archive{ depth = 2 }.format --> \"zip\""),
		},
	}
}

func mimeLibrary() section {
	return section{name: "mime", class: "mimelib", doc: "Mail within mail, and the words of header fields. The parts of the message itself are tx.mime.", items: []member{
		def("parse", "(text: string): mime?, error?", "The parts of a text that is a message, such as one that a part holds as a file. It has the members of tx.mime.", "local m = mime.parse(\"Content-Type: text/html\\r\\n\\r\\n<b>hello</b>\\r\\n\")\nm.root.type --> \"text/html\"\nm:text() --> \"hello\", false"),
		def("decode", "(text: string): string", "A header text with its encoded words decoded.", "mime.decode(\"=?utf-8?q?Gr=C3=BC=C3=9Fe?=\") --> \"Grüße\""),
		def("encode", "(text: string): string", "A header text as it travels: in encoded words where it is not ASCII. What tx.headers takes needs none of it.", "mime.encode(\"Grüße\") --> \"=?utf-8?q?Gr=C3=BC=C3=9Fe?=\"\nmime.encode(\"Hello\") --> \"Hello\""),
	}}
}

func archiveSections() []section {
	const zip = "local zip = mime.parse(\"Content-Transfer-Encoding: base64\\r\\n\\r\\nH4sIAAAAAAACA/N1AQA+pr91AgAAAA==\\r\\n\").root:archive()\n"
	return []section{
		{name: "archive", class: "archive", plain: true, doc: "What part:archive found.", items: []member{
			def("format", "string", "zip, tar, gzip, bzip2, rar or 7z, or one that can't be looked into: xz, zstd, cab, arj, ace, lha, compress.", zip+"zip.format --> \"gzip\""),
			def("entries", "entry[]", "The files in it, an archive before what is in that.", zip+"#zip.entries --> 1"),
			def("encrypted", "boolean", "Whether one of them is.", zip+"zip.encrypted --> false"),
			def("truncated", "string?", "The bound that was met, beyond which nothing was looked at: depth, entries, size or ratio.", zip+"zip.truncated --> nil"),
			def("fault", "string?", "The first thing that is wrong with it.", zip+"zip.fault --> nil"),
			def("unread", "string[]", "The formats in it that can't be looked into.", zip+"zip.unread --> {}"),
		}},
		{name: "entry", class: "entry", plain: true, doc: "A file in an archive.", items: []member{
			def("name", "string", "Its name, with its path; \"\" where the archive has none.", zip+"zip.entries[1].name --> \"\""),
			def("extension", "string?", "What stands behind the name's last dot, as of a part.", zip+"zip.entries[1].extension --> nil"),
			def("size", "integer", "Bytes unpacked, as the archive says; -1 where it does not say.", zip+"zip.entries[1].size --> -1"),
			def("depth", "integer", "1 in the archive itself, 2 in an archive in that.", zip+"zip.entries[1].depth --> 1"),
			def("encrypted", "boolean", "Whether it can't be looked into without a password.", zip+"zip.entries[1].encrypted --> false"),
			def("format", "string?", "The format of an archive.", zip+"zip.entries[1].format --> nil"),
		}},
	}
}
