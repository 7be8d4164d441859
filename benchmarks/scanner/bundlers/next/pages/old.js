// Of the older router, which leaves packages outside of the server's bundles.
import axios from 'axios';
import sortBy from 'lodash/sortBy';

export async function getServerSideProps() {
  return { props: { names: sortBy(['b', 'a']), agent: axios.VERSION } };
}

export default function Old({ names }) {
  return <ul onClick={() => axios.get('/api/legacy')}>{sortBy(names).map((name) => <li key={name}>{name}</li>)}</ul>;
}
