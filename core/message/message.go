// Package message holds what everyone in Postern passes around: addresses,
// envelopes, replies, header sections and bodies. It does no I/O, and beside the
// standard library it imports golang.org/x/text for charsets and golang.org/x/net
// for HTML and names of the web, as browsers read them.
//
//   - Address (address.go): a mailbox of an envelope, RFC 5321 section 4.1.2;
//     ParsePath reads what stands behind MAIL FROM: and RCPT TO:.
//   - Reply (reply.go): an SMTP reply; it is the error type of every package
//     border, and Permanent is the only judge of "for good" or "for now".
//   - Body (body.go): the bytes of a message, readable by many at once.
//   - LineEnds (lines.go): whether a text holds what only a binary body may.
//   - DecodeXtext (xtext.go): the coding of DSN parameters, RFC 3461.
//   - Header (header.go): a header section that is kept byte for byte, read
//     with decoding, edited field by field.
//   - DecodeWords (word.go): encoded words, RFC 2047.
//   - ParseMIME and Part (mime.go, part.go): the structure of a message, found in
//     one bounded pass; ParseContent (param.go) reads parameters, RFC 2231;
//     transfer.go and charset.go decode, RenderHTML (html.go) gives the text of
//     HTML, MIME.URLs (urls.go) the addresses in texts.
//   - Footer and ReplaceText (footer.go): new content for a message, as a Rope
//     (rope.go) over the old one.
//   - Received and Date (trace.go): the trace fields that a hop prepends.
//   - NewID (id.go): names for messages and sessions.
package message
