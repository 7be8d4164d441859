# Requires features and writes what Ruby has loaded.
out, *names = ARGV
names.each do |name|
  begin
    require name
  rescue Exception
  end
end
files = $LOADED_FEATURES.dup
# Of the gems that were activated, those of which a file was loaded.
gems = Gem.loaded_specs.values.select do |spec|
  ends = spec.files.grep(%r{\Alib/}).map { |f| f.delete_prefix('lib') }
  files.any? { |f| f.start_with?("#{spec.full_gem_path}/") || ends.any? { |e| f.end_with?(e) } }
end.map(&:loaded_from).compact
maps = File.readlines('/proc/self/maps').select { |l| l.include?('r-xp') && l.include?('/') }.map { |l| l[l.index('/')..].chomp }
File.write(out, (files + maps).map { |f| "\t#{f}\n" }.join + gems.map { |g| "gem\t#{g}\n" }.join)
exit!(0)
