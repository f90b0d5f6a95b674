// nodemailer sends: node sends.js HOST PORT FILE. It writes what it makes itself
// to made.eml and large.eml.
"use strict";
const fs = require("fs");
const path = require("path");
const modules = path.join(__dirname, "../../../bin/peers/nodemailer/node_modules/nodemailer");
const nodemailer = require(modules);
const MailComposer = require(path.join(modules, "lib/mail-composer"));

const [host, port, file] = process.argv.slice(2);
const from = "a@client.example";

async function main() {
  const transport = nodemailer.createTransport({
    host, port: Number(port), name: "client.example", pool: true, maxConnections: 1,
    tls: { rejectUnauthorized: false },
  });
  const send = (to, raw) => transport.sendMail({ envelope: { from, to }, raw });

  const said = await send("plain@example.net", fs.readFileSync(file));
  console.log("said", said.response);

  const made = await new MailComposer({
    from, to: "made@example.net", subject: "Grüße", text: "Grüße\r\n.\r\n..\r\n", html: "<p>Grüße</p>",
    attachments: [{ filename: "fü.bin", content: Buffer.from([0, 13, 10, 46, 13, 10, 255]) }],
  }).compile().build();
  fs.writeFileSync("made.eml", made);
  await send("made@example.net", made);

  const large = Buffer.from("Subject: large\r\n\r\n" + (".".padEnd(70, "k") + "\r\n").repeat(70000));
  fs.writeFileSync("large.eml", large);
  await send("large@example.net", large);

  const partly = await send(["nobody@example.net", "b@example.net"], Buffer.from("Subject: partly\r\n\r\nx\r\n"));
  for (const e of partly.rejectedErrors) console.log("rejected %s: %s", e.recipient, e.response);

  await send("nobody@example.net", Buffer.from("Subject: none\r\n\r\nx\r\n")).then(
    () => { throw new Error("a refused recipient was taken"); },
    (e) => console.log("refused", e.response));
  transport.close();
  console.log("all sent");
}

main().catch((e) => { console.error(e); process.exit(1); });
