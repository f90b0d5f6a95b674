package t

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The plugins that qpsmtpd (its folder plugins) and Haraka (its folder plugins, and the
// packages that it names) ship.
const (
	pluginsOfQpsmtpd = `auth/auth_checkpassword auth/auth_cvm_unix_local auth/auth_flat_file auth/auth_imap auth/auth_ldap_bind auth/auth_vpopmail
		auth/auth_vpopmail_sql auth/auth_vpopmaild auth/authdeny badmailfrom badmailfromto badrcptto bogus_bounce connection_time content_log
		count_unrecognized_commands dkim dmarc dns_whitelist_soft dnsbl domainkeys dont_require_anglebrackets dspam earlytalker fcrdns greylisting
		headers helo help hosts_allow http_config ident/geoip ident/p0f karma loadcheck logging/adaptive logging/apache logging/connection_id
		logging/devnull logging/file logging/syslog logging/transaction_id logging/warn loop milter naughty noop_counter parse_addr_withhelo
		qmail_deliverable queue/exim-bsmtp queue/maildir queue/postfix-queue queue/qmail-queue queue/smtp-forward quit_fortune random_error
		rcpt_map rcpt_ok rcpt_regexp relay resolvable_fromhost rhsbl sender_permitted_from spamassassin stunnel tls tls_cert uribl user_config
		virus/aveclient virus/bitdefender virus/clamav virus/clamdscan virus/hbedv virus/kavscanner virus/klez_filter virus/sophie virus/uvscan whitelist`
	pluginsOfHaraka = `access accounting-files aliases asn attachment auth/auth_base auth/auth_bridge auth/auth_ldap auth/auth_proxy auth/auth_vpopmaild
		auth/flat_file avg block_me bounce clamd data.signatures dcc delay_deny dkim dns-list early_talker elasticsearch esets fcrdns geoip graph greylist
		headers helo.checks karma known-senders limit mail_from.is_resolvable messagesniffer mongodb ocsp p0f prevent_credential_leaks process_title
		profile qmail-deliverable queue/deliver queue/discard queue/lmtp queue/qmail-queue queue/quarantine queue/smtp_bridge queue/smtp_forward
		queue/smtp_proxy queue/test rcpt-ldap rcpt_to.host_list_base rcpt_to.in_host_list recipient-routes record_envelope_addresses redis relay
		reseed_rng rspamd spamassassin spf status syslog tarpit tls toobusy uribl watch xclient`
)

// TestParity: docs/parity.md has a row for each plugin, and each policy that is shipped
// stands somewhere in it.
func TestParity(t *testing.T) {
	page := read(t, "../docs/parity.md")
	for section, plugins := range map[string]string{"qpsmtpd": pluginsOfQpsmtpd, "Haraka": pluginsOfHaraka} {
		_, table, _ := strings.Cut(page, "\n## "+section+"\n")
		table, _, _ = strings.Cut(table, "\n## ")
		for name := range strings.FieldsSeq(plugins) {
			if !regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(name) + "` \\| \\S").MatchString(table) {
				t.Errorf("%s: %s has no row", section, name)
			}
		}
	}
	scripts, err := filepath.Glob("../scripts/*.lua")
	if err != nil || len(scripts) < 60 {
		t.Fatalf("%d files, %v", len(scripts), err)
	}
	for _, file := range scripts {
		name := strings.TrimSuffix(filepath.Base(file), ".lua")
		if !strings.HasSuffix(name, "_test") && !strings.Contains(page, "(policies/"+name+".md)") {
			t.Errorf("policy %s is not in the table", name)
		}
	}
}
