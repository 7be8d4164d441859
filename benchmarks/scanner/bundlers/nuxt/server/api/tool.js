import { parse } from 'graphql';
import { hideBin } from 'yargs/helpers';

export default defineEventHandler(async () => {
  const { load } = await import('js-yaml');
  return { bin: hideBin(process.argv), query: parse('{a}'), more: load('a: 1') };
});
