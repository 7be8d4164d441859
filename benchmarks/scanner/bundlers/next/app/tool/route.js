import { hideBin } from 'yargs/helpers';
import { parse } from 'graphql';

export async function GET(request) {
  const { load } = await import('js-yaml');
  return Response.json({ bin: hideBin(process.argv), query: parse('{a}'), more: load('a: 1') });
}
