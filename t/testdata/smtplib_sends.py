"""Python's smtplib as a client: python3 smtplib_sends.py HOST PORT"""
import smtplib
import ssl
import sys

host, port = sys.argv[1], int(sys.argv[2])
sender = "a@client.example"

with smtplib.SMTP(host, port, local_hostname="client.example", timeout=20) as c:
    c.sendmail(sender, ["plain@example.net"], "From: a@client.example\r\nSubject: plain\r\n\r\nGr\u00fc\u00dfe\r\n.\r\n..\r\n".encode())
    big = b"Subject: big\r\n\r\n" + b"".join(b"%06d %s\r\n" % (n, b"k" * 60) for n in range(20000))
    c.sendmail(sender, ["b@example.net"], big, mail_options=["BODY=8BITMIME"])
    refused = c.sendmail(sender, ["b@example.net", "nobody@example.net"], "Subject: partly\n\nx\n")
    assert list(refused) == ["nobody@example.net"] and refused["nobody@example.net"][0] == 550, refused

with smtplib.SMTP(host, port, local_hostname="client.example", timeout=20) as c:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    c.starttls(context=context)
    c.sendmail(sender, ["b@example.net"], "Subject: by TLS\n\nx\n")
    try:
        c.sendmail(sender, ["nobody@example.net"], "Subject: none\n\nx\n")
    except smtplib.SMTPRecipientsRefused:
        pass
    else:
        sys.exit("a refused recipient was taken")
print("all sent")
