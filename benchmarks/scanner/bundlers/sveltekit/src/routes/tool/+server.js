import { json } from '@sveltejs/kit';
import { parse } from 'graphql';
import { hideBin } from 'yargs/helpers';

export async function GET() {
  const { load } = await import('js-yaml');
  return json({ bin: hideBin(process.argv), query: parse('{a}'), more: load('a: 1') });
}
