import { format } from 'date-fns';
import { capitalize } from 'lodash-es';
import { marked } from 'marked';

export function load() {
  return { text: marked.parse(`# ${capitalize('shop')} of ${format(new Date(), 'yyyy')}`) };
}
