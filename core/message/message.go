// Package message holds what everyone in Postern passes around: addresses,
// envelopes, replies, header sections and bodies. It does no I/O and imports
// the standard library only.
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
//   - Received and Date (trace.go): the trace fields that a hop prepends.
//   - NewID (id.go): names for messages and sessions.
package message
