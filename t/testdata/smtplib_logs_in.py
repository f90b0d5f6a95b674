"""smtplib logs in: python3 smtplib_logs_in.py HOST PORT TLSPORT FILE

Sends FILE to MECHANISM-TLS@elsewhere.example for each mechanism and way of TLS;
cert.pem is what the server's certificate has to be."""
import smtplib
import ssl
import sys

host, port, tls_port, file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
context = ssl.create_default_context(cafile="cert.pem")
with open(file, "rb") as f:
    message = f.read().replace(b"\n", b"\r\n")


def connect(way):
    if way == "implicit":
        return smtplib.SMTP_SSL(host, tls_port, local_hostname="client.example", timeout=20, context=context)
    c = smtplib.SMTP(host, port, local_hostname="client.example", timeout=20)
    c.ehlo()
    assert not c.has_extn("auth"), "AUTH in the clear"
    c.starttls(context=context)
    return c


def log_in(c, mechanism, password):
    c.ehlo()
    c.user, c.password = "ann@example.net", password
    c.auth(mechanism, {"PLAIN": c.auth_plain, "LOGIN": c.auth_login}[mechanism])


for way in ("starttls", "implicit"):
    for mechanism in ("PLAIN", "LOGIN"):
        with connect(way) as c:
            log_in(c, mechanism, "other")
            c.sendmail("ann@example.net", ["%s-%s@elsewhere.example" % (mechanism, way)], message)
            try:
                c.sendmail("ann@example.net", ["nobody@elsewhere.example"], message)
            except smtplib.SMTPRecipientsRefused as e:
                print("refused: %d %s" % (e.recipients["nobody@elsewhere.example"][0], e.recipients["nobody@elsewhere.example"][1].decode()))
            else:
                sys.exit("a refused recipient was taken")

with connect("starttls") as c:
    try:
        log_in(c, "PLAIN", "wrong")
    except smtplib.SMTPAuthenticationError as e:
        print("wrong: %d %s" % (e.smtp_code, e.smtp_error.decode()))
    else:
        sys.exit("a wrong password was taken")
print("all sent")
