/** What a map file holds, for JavaScript. */

/**
 * The values of a map file: `Uint16Array`, those of a point next to each other.
 *
 * In the file each block has, for each column, all low bytes and then all high bytes.
 */
export function unpack(bytes, columns, block) {
  const count = bytes.length / (2 * columns);
  const values = new Uint16Array(count * columns);
  for (let start = 0; start < count; start += block) {
    const size = Math.min(block, count - start);
    for (let column = 0; column < columns; column++) {
      const low = 2 * (start * columns + column * size);
      for (let i = 0; i < size; i++) {
        values[(start + i) * columns + column] = bytes[low + i] | (bytes[low + size + i] << 8);
      }
    }
  }
  return values;
}

/** The bytes of gzip in base64. */
export async function inflated(text) {
  const packed = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
