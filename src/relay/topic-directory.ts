/** Known topics, and how to get to know one. */
export interface TopicDirectory {
  /** Partition count, or undefined if the topic was not met yet. */
  partitions(topic: string): number | undefined;
  /**
   * Creates the topic if it is missing. Rejects with TOPIC_REFUSED if Kafka does not let us have it, with RELAY_PARTITIONS_CHANGED, or when
   * Kafka cannot be reached.
   */
  meet(topic: string): Promise<number>;
  /** As `meet`, for a topic that holds copies: it may be deleted or changed one day, so no checkpoint depends on it. */
  meetAside(topic: string): Promise<number>;
}
