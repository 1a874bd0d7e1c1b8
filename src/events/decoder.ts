/** The port through which record values are read: by consumers, by the counting, by `./ferry tail`. Its implementation is `registry/`. */
export interface DecodedValue {
  readonly schemaId: number;
  /** Full name of the writer's record, such as `commerce.OrderPlaced`. */
  readonly type: string;
  /** Plain JSON, of the form that the encoder accepts: decimals and timestamps as strings, unions unwrapped. */
  readonly value: unknown;
}

export interface EventDecoder {
  /**
   * Decodes a value in Confluent wire format with the schema that it names, asking the registry once for a schema not yet known. Rejects
   * with a FerryError: one that is not retryable (PAYLOAD_NOT_WIRE_FORMAT, SCHEMA_UNKNOWN, SCHEMA_MISMATCH) when the bytes are at fault,
   * REGISTRY_UNAVAILABLE when nothing is known.
   */
  decode(value: Buffer): Promise<DecodedValue>;
}
