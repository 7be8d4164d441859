import axios from 'axios';
import sortBy from 'lodash/sortBy.js';

export function load() {
  return { names: sortBy(['b', 'a']), agent: axios.VERSION };
}
