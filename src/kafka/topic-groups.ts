/** Which consumer groups read which topics, as far as Kafka knows: by the offsets that they have committed. */
import { createKafka, type KafkaOptions } from './client.ts';
import { GROUP_COORDINATOR, openCluster } from './protocol.ts';

/** Groups that are looked at; a cluster with more tells of these only. */
export const MAX_GROUPS = 1_000;

/** For each of the topics, the groups that have an offset in it, sorted. A group that has never committed one is not known to read it. */
export async function groupsOfTopics(kafka: KafkaOptions, topics: readonly string[]): Promise<Map<string, string[]>> {
  const readers = new Map<string, string[]>(topics.map((topic) => [topic, []]));
  const groups = await listGroups(kafka);
  const cluster = await openCluster(kafka);
  try {
    for (const groupId of groups.slice(0, MAX_GROUPS)) {
      const coordinator = await cluster.findGroupCoordinator({ groupId, coordinatorType: GROUP_COORDINATOR });
      const { responses } = await coordinator.offsetFetch({ groupId, topics: [] });
      for (const { topic, partitions } of responses) {
        if (partitions.some(({ offset }) => BigInt(offset) >= 0n)) readers.get(topic)?.push(groupId);
      }
    }
  } finally {
    await cluster.disconnect();
  }
  return readers;
}

async function listGroups(kafka: KafkaOptions): Promise<string[]> {
  const admin = createKafka(kafka).admin();
  try {
    await admin.connect();
    const { groups } = await admin.listGroups();
    return groups.map(({ groupId }) => groupId).sort();
  } finally {
    await admin.disconnect();
  }
}
