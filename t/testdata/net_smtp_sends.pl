# Sends with Perl's Net::SMTP: 8-bit text with dots, a partly refused envelope,
# a second message in the same session. Usage: net_smtp_sends.pl HOST PORT FILE
use strict;
use warnings;
use Net::SMTP;

my ($host, $port, $file) = @ARGV;
my $smtp = Net::SMTP->new($host, Port => $port, Hello => 'client.example', Timeout => 20) or die "no connection: $@";
die 'no SIZE' unless $smtp->supports('SIZE');

open my $in, '<:raw', $file or die "$file: $!";
my @lines = <$in>;

sub ok { my ($done, $what) = @_; die "$what: " . $smtp->code . ' ' . $smtp->message unless $done }

ok($smtp->mail('a@client.example', Bits => '8'), 'MAIL');
ok($smtp->to('plain@example.net'), 'RCPT');
ok($smtp->data, 'DATA');
ok($smtp->datasend(\@lines), 'text');
ok($smtp->dataend, 'end of data');
print 'said ', $smtp->message;

ok($smtp->mail('a@client.example'), 'MAIL');
my @taken = $smtp->to('nobody@example.net', 'other@example.net', { SkipBad => 1 });
die "taken: @taken" unless "@taken" eq 'other@example.net';
ok($smtp->data("Subject: partly\n\nfor one of two\n"), 'DATA');

ok($smtp->mail('a@client.example'), 'MAIL');
die 'taken' if $smtp->to('nobody@example.net');
print 'refused ', $smtp->code, ' ', $smtp->message;
ok($smtp->reset, 'RSET');
$smtp->quit;
print "all sent\n";
