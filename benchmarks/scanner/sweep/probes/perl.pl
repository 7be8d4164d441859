# Requires modules and writes what Perl has loaded.
my ($out, @names) = @ARGV;
for my $name (@names) { eval { local $SIG{ALRM} = sub { die }; alarm 10; require $name; alarm 0; }; }
my @files = map { $INC{$_} } keys %INC;
open(my $maps, '<', '/proc/self/maps');
while (<$maps>) { push @files, $1 if /r-xp.*?(\/.*)$/ }
open(my $to, '>', $out);
print $to "\t$_\n" for grep { defined && m{^/} } @files;
close $to;
require POSIX; POSIX::_exit(0);
