// nodemailer logs in by PLAIN and LOGIN, over STARTTLS and over TLS from the first
// byte: node logs_in.js HOST PORT TLSPORT FILE. Sends FILE to
// MECHANISM-TLS@elsewhere.example; cert.pem is what the server's certificate has to be.
"use strict";
const fs = require("fs");
const path = require("path");
const nodemailer = require(path.join(__dirname, "../../../bin/peers/nodemailer/node_modules/nodemailer"));

const [host, port, tlsPort, file] = process.argv.slice(2);
const from = "joe@example.net";

function connected(way, authMethod, pass) {
  const secure = way === "implicit";
  return nodemailer.createTransport({
    host, port: Number(secure ? tlsPort : port), name: "client.example", secure, requireTLS: !secure,
    tls: { ca: fs.readFileSync("cert.pem") }, authMethod, auth: { user: from, pass },
  });
}

function refused(promise, label) {
  return promise.then(
    () => { throw new Error("what should be refused was taken"); },
    (e) => {
      if (!e.response) throw e;
      console.log("%s: %s", label, e.response.slice(e.response.indexOf("5")));
    });
}

async function main() {
  const raw = fs.readFileSync(file);
  for (const way of ["starttls", "implicit"]) {
    for (const method of ["PLAIN", "LOGIN"]) {
      const transport = connected(way, method, "päss word");
      await transport.sendMail({ envelope: { from, to: `${method}-${way}@elsewhere.example` }, raw });
      await refused(transport.sendMail({ envelope: { from, to: "nobody@elsewhere.example" }, raw }), "refused");
    }
  }
  await refused(connected("starttls", "PLAIN", "wrong").verify(), "wrong");
  console.log("all sent");
}

main().catch((e) => { console.error(e); process.exit(1); });
