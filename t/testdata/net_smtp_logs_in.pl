# Net::SMTP logs in by PLAIN and LOGIN, over STARTTLS and over TLS from the first
# byte: net_smtp_logs_in.pl HOST PORT TLSPORT FILE. Sends FILE to
# MECHANISM-TLS@elsewhere.example; cert.pem is what the server's certificate has to be.
use strict;
use warnings;
use Authen::SASL 'Perl';
use Net::SMTP;

my ($host, $port, $tls_port, $file) = @ARGV;
my @tls = (SSL_ca_file => 'cert.pem', SSL_verifycn_name => 'mx.example.net');

open my $in, '<:raw', $file or die "$file: $!";
my @lines = <$in>;

sub ok { my ($smtp, $done, $what) = @_; die "$what: " . $smtp->code . ' ' . $smtp->message unless $done }

sub connected {
  my ($way) = @_;
  my @to = ($host, Hello => 'client.example', Timeout => 20);
  if ($way eq 'implicit') {
    return Net::SMTP->new(@to, Port => $tls_port, SSL => 1, @tls) || die "no connection: $@";
  }
  my $smtp = Net::SMTP->new(@to, Port => $port) or die "no connection: $@";
  die 'AUTH in the clear' if $smtp->supports('AUTH');
  ok($smtp, $smtp->starttls(@tls), 'STARTTLS');
  return $smtp;
}

sub sasl {
  my ($mechanism, $password) = @_;
  return Authen::SASL->new(mechanism => $mechanism, callback => { user => 'joe@example.net', authname => '', pass => $password });
}

# The bytes of this file: Authen::SASL encodes nothing.
my $password = 'päss word';
for my $way ('starttls', 'implicit') {
  for my $mechanism ('PLAIN', 'LOGIN') {
    my $smtp = connected($way);
    ok($smtp, $smtp->auth(sasl($mechanism, $password)), "AUTH $mechanism");
    ok($smtp, $smtp->mail('joe@example.net', Bits => '8'), 'MAIL');
    ok($smtp, $smtp->to("$mechanism-$way\@elsewhere.example"), 'RCPT');
    ok($smtp, $smtp->data, 'DATA');
    ok($smtp, $smtp->datasend(\@lines), 'text');
    ok($smtp, $smtp->dataend, 'end of data');
    ok($smtp, $smtp->mail('joe@example.net'), 'MAIL');
    die 'a refused recipient was taken' if $smtp->to('nobody@elsewhere.example');
    print 'refused: ', $smtp->code, ' ', $smtp->message;
    $smtp->quit;
  }
}

my $smtp = connected('starttls');
die 'a wrong password was taken' if $smtp->auth(sasl('PLAIN', 'wrong'));
print 'wrong: ', $smtp->code, ' ', $smtp->message;
print "all sent\n";
