// A component of the server, with one of the client in it.
import { marked } from 'marked';
import { format } from 'date-fns';
import { capitalize } from 'lodash-es';
import Cart from './cart';

export const dynamic = 'force-dynamic';

export default function Page() {
  const text = marked.parse(`# ${capitalize('shop')} of ${format(new Date(), 'yyyy')}`);
  return <main><p dangerouslySetInnerHTML={{ __html: text }} /><Cart /></main>;
}
